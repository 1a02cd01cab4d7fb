"""A monitor in the test's own process, and events as a worker publishes them."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.monitor import Monitor
from sluice_agent.monitor.broker.broker_app import BrokerApp
from tests.support.waiting import wait_until

PUBLISHED_STATES = {"queued", "active", "completed"}


class RunningMonitor:
    """A `Monitor` of one broker, and the states that it has emitted so far."""

    def __init__(
        self, address: Callable[[], str], *, can_keep: Callable[[], bool] = lambda: True, **options: Any
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._states: dict[str, list[str]] = {}
        self.monitor = Monitor(
            BrokerApp(address, {}),
            Sink(
                emit=self._record,
                drop=lambda reason: self.dropped.update([reason]),
                connection_id=str(uuid.uuid4()),
                can_keep=can_keep,
            ),
            **{"queue_interval": 0.0, **options},
        )

    def states(self, job: str) -> list[str]:
        """Return the states of a job in the order of their events."""
        return self._states.get(job, [])

    def has_reported(self, jobs: list[str]) -> bool:
        """Return whether all events of these jobs that `publish` publishes were emitted."""
        return all(set(self.states(job)) >= PUBLISHED_STATES for job in jobs)

    def wait_until_connected(self) -> None:
        """Wait until it listens."""
        wait_until(lambda: self.monitor.state().connected, 20, "the monitor is not connected", self.monitor.state)

    def _record(self, line: bytes) -> None:
        job = json.loads(line).get("job")
        if job:
            self._states.setdefault(job["externalId"], []).append(job["state"])


@contextmanager
def running_monitor(address: str | Callable[[], str], **options: Any) -> Iterator[RunningMonitor]:
    """Run a monitor until the end of the block; it listens when the block begins."""
    running = RunningMonitor(address if callable(address) else lambda: address, **options)
    running.monitor.start()
    try:
        running.wait_until_connected()
        yield running
    finally:
        running.monitor.stop(10)


def publish(url: str, tasks: int, hostname: str = "simulated@host") -> list[str]:
    """Publish the events of successful tasks over a new connection, as a prefork worker does; return the task ids."""
    app = Celery("simulated", broker=url, set_as_current=False)
    jobs = [str(uuid.uuid4()) for _ in range(tasks)]
    with (
        app.connection_for_write() as connection,
        app.events.Dispatcher(connection, hostname=hostname, buffer_group={"task"}) as dispatcher,
    ):
        dispatcher.send("worker-heartbeat", freq=2.0, active=0, processed=0, loadavg=(0, 0, 0))
        for job in jobs:
            dispatcher.send("task-received", uuid=job, name="simulated", args="()", kwargs="{}", retries=0)
            dispatcher.send("task-started", uuid=job)
            dispatcher.send("task-succeeded", uuid=job, result="None", runtime=0.01)
        dispatcher.flush(groups={"task"})
    return jobs


def publish_event(url: str, kind: str, **fields: Any) -> str:
    """Publish one event of a new task; return the task's id."""
    app, job = Celery("simulated", broker=url, set_as_current=False), str(uuid.uuid4())
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        dispatcher.send(kind, uuid=job, **fields)
    return job
