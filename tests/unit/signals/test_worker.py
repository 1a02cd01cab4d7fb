"""What a worker says of itself, at moments that a real worker meets once in a hundred shutdowns."""

from __future__ import annotations

from types import SimpleNamespace

from celery import Celery
from celery.concurrency.prefork import TaskPool

from sluice_agent.signals.context import Sink
from sluice_agent.signals.worker import WorkerProcess

CONNECTION = "6f1a4f0e-8f57-4f6e-9d53-0a5d2f0b6c11"


def test_a_heartbeat_that_meets_a_pool_which_has_stopped() -> None:
    """It would be counted as an internal error, and the accounts of a worker that ended well would show a loss."""
    drop: list[str] = []
    sink = Sink(
        emit=lambda _: None, drop=drop.append, connection_id=CONNECTION, is_ignored=lambda _: False, redact=None
    )
    nothing = lambda *_: None  # noqa: E731 - it stands for each of the callbacks
    workers = WorkerProcess(sink, 5.0, nothing, nothing, nothing, nothing, nothing, dict)
    pool = TaskPool(3)
    pool._pool = SimpleNamespace(_processes=3)
    workers._consumer = SimpleNamespace(pool=pool, app=Celery("app", set_as_current=False), hostname="one@host")
    workers._look()
    pool._pool = None  # as its `stop` leaves it
    workers._look()
    assert workers._worker_fields["concurrency"] == 3
    assert drop == []
