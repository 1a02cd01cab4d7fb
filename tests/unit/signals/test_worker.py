"""The events of a worker, and what the agent does at its moments."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.concurrency.prefork import TaskPool
from celery.concurrency.thread import TaskPool as ThreadPool

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.hooks import Hooks
from sluice_agent.signals.worker import WorkerProcess
from sluice_agent.signals.worker_pool import WorkerPool
from tests.support.waiting import wait_until
from tests.unit.signals.observed import CONNECTION


class Worker:
    """A worker that is ready, and all that its handlers do, in order."""

    def __init__(self, pool: Any, heartbeat_interval: float = 0.0) -> None:
        self.steps: list[str] = []
        self.workers: list[dict[str, Any]] = []
        self.dropped: list[str] = []
        self.pool = WorkerPool()
        sink = Sink(emit=self._emit, drop=self.dropped.append, connection_id=CONNECTION)
        record = self.steps.append
        hooks = Hooks(
            worker_set_up=lambda: record("set up"),
            worker_started=lambda _app, hostname: record(f"{hostname} started"),
            worker_stopped=lambda: record("stopped"),
            pool_process_started=lambda: record("process started"),
            pool_process_stopped=lambda: record("process stopped"),
            losses=lambda: {"reentrant": 2},
        )
        self.process = WorkerProcess(sink, self.pool, lambda: record("open jobs"), hooks, heartbeat_interval)
        app = Celery("app", set_as_current=False)
        self.sender = SimpleNamespace(pool=pool, app=app, hostname="one@host")

    def _emit(self, line: bytes) -> None:
        worker = json.loads(line)["worker"]
        self.workers.append(worker)
        if worker["state"] != "heartbeat":
            self.steps.append(worker["state"])


def test_the_agent_acts_around_the_worker() -> None:
    """It would ship from a pool process, open its journal as root, or stop before the last events are written."""
    worker = Worker(ThreadPool(3))
    process = worker.process
    process.set_up()
    process.process_init()
    process.ready(worker.sender)
    process.process_shutdown()
    process.shutdown()
    process.shutdown()  # by the signal, and as the process exits: a cold shutdown has no signal
    assert worker.steps == [
        *("set up", "process started", "one@host started", "online", "process stopped"),
        *("offline", "open jobs", "stopped"),
    ]


@pytest.mark.parametrize("is_green", [True, False])
def test_the_kind_of_the_pool_is_known_when_the_worker_is_ready(is_green: bool) -> None:
    """The number of a greenlet would be taken for that of a process, and each job reported under two ids."""
    worker = Worker(SimpleNamespace(is_green=is_green, num_processes=1))
    worker.process.ready(worker.sender)
    worker.process.shutdown()
    assert worker.pool.in_greenlets is is_green


def test_a_heartbeat_has_the_losses() -> None:
    """An operator could not see that events are dropped."""
    worker = Worker(ThreadPool(3), heartbeat_interval=0.01)
    worker.process.ready(worker.sender)
    wait_until(lambda: worker.workers[-1]["state"] == "heartbeat")
    worker.process.shutdown()
    beats = [event for event in worker.workers if event["state"] == "heartbeat"]
    assert beats[0]["metadata"]["dropped"] == {"reentrant": 2}
    assert beats[0]["metadata"]["heartbeatInterval"] == 0.01
    assert beats[0]["concurrency"] == 3


def test_a_heartbeat_after_the_pool_has_stopped() -> None:
    """It would be counted as an internal error, and the figures of a worker that ended well would show a drop."""
    pool = TaskPool(3)
    pool._pool = SimpleNamespace(_processes=3)
    worker = Worker(pool, heartbeat_interval=0.01)
    worker.process.ready(worker.sender)
    pool._pool = None  # as its `stop` leaves it
    beats = len(worker.workers)
    wait_until(lambda: len(worker.workers) > beats + 1)
    worker.process.shutdown()
    assert {event["concurrency"] for event in worker.workers} == {3}
    assert worker.dropped == []
