"""A queue sampler in the test's own process, and the snapshots that it emits."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.monitor.queues import QueueSampler
from tests.support.wire import faults

CONNECTION = str(uuid.uuid4())


class RunningSampler:
    """`snapshots` are the queues of the events, in their order; `dropped` the reasons of dropped ones."""

    def __init__(self, app: Celery, names: Collection[str], interval: float = 0.2, **options: Any) -> None:
        self.snapshots: list[dict[str, Any]] = []
        self.dropped: list[str] = []
        self.faults: list[str] = []
        self.sampler = QueueSampler(
            app,
            Sink(
                emit=self._take,
                drop=self.dropped.append,
                connection_id=options.pop("connection_id", CONNECTION),
            ),
            interval=interval,
            names=lambda: names,
            **options,
        )

    def latest(self, name: str) -> dict[str, Any] | None:
        """Return the last snapshot of this queue."""
        return next((queue for queue in reversed(self.snapshots) if queue["name"] == name), None)

    def depth(self, name: str) -> int | None:
        """Return the depth in the last snapshot of this queue."""
        latest = self.latest(name)
        return None if latest is None else latest["depth"]

    def _take(self, line: bytes) -> None:
        event = json.loads(line)
        self.faults += faults(event)
        self.snapshots.append(event["queue"])


@contextmanager
def running_sampler(
    app: Celery, names: Collection[str], interval: float = 0.2, **options: Any
) -> Iterator[RunningSampler]:
    """Run a sampler until the end of the block, and assert that it dropped nothing and kept the contract."""
    running = RunningSampler(app, names, interval, **options)
    running.sampler.start()
    try:
        yield running
    finally:
        running.sampler.stop(10)
    assert (running.dropped, running.faults) == ([], [])
