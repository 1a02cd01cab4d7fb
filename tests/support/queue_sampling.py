"""A queue sampler in the test's own process, and what it told."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery

from sluice_agent.monitor.queues import QueueSampler
from tests.support.wire import faults

CONNECTION = str(uuid.uuid4())


class RunningSampler:
    """`snapshots` are the queues of the events, in their order; `lost` the reasons of what could not be told."""

    def __init__(self, app: Celery, names: Collection[str], interval: float = 0.2, **options: Any) -> None:
        self.snapshots: list[dict[str, Any]] = []
        self.lost: list[str] = []
        self.faults: list[str] = []
        self.sampler = QueueSampler(
            app,
            connection_id=options.pop("connection_id", CONNECTION),
            emit=self._take,
            drop=self.lost.append,
            interval=interval,
            names=lambda: names,
            **options,
        )

    def latest(self, name: str) -> dict[str, Any] | None:
        """The last snapshot of this queue."""
        return next((queue for queue in reversed(self.snapshots) if queue["name"] == name), None)

    def depth(self, name: str) -> int | None:
        """How deep it was the last time."""
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
    """A sampler that runs while the block does, and breaks no contract."""
    one = RunningSampler(app, names, interval, **options)
    one.sampler.start()
    try:
        yield one
    finally:
        one.sampler.stop(10)
    assert (one.lost, one.faults) == ([], [])
