"""Events of a worker at moments that a real worker meets once in a hundred shutdowns."""

from __future__ import annotations

from types import SimpleNamespace

from celery import Celery
from celery.concurrency.prefork import TaskPool

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.hooks import Hooks
from sluice_agent.signals.worker import WorkerProcess
from sluice_agent.signals.worker_pool import WorkerPool

CONNECTION = "6f1a4f0e-8f57-4f6e-9d53-0a5d2f0b6c11"


def test_a_heartbeat_after_the_pool_has_stopped() -> None:
    """It would be counted as an internal error, and the figures of a worker that ended well would show a drop."""
    dropped: list[str] = []
    sink = Sink(
        emit=lambda _: None, drop=dropped.append, connection_id=CONNECTION, is_ignored=lambda _: False, redact=None
    )
    worker = WorkerProcess(sink, WorkerPool(), lambda: None, Hooks(), 5.0)
    pool = TaskPool(3)
    pool._pool = SimpleNamespace(_processes=3)
    worker._consumer = SimpleNamespace(pool=pool, app=Celery("app", set_as_current=False), hostname="one@host")
    worker._update_fields()
    pool._pool = None  # as its `stop` leaves it
    worker._update_fields()
    assert worker._fields["concurrency"] == 3
    assert dropped == []
