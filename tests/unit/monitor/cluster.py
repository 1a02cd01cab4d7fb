"""A cluster that exists in its events alone, and what a tracker has emitted about it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from sluice_agent.globs import matcher
from sluice_agent.lifecycle.redaction import Redact
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.monitor.tracker import Tracker
from tests.support.endpoint import event_id_of
from tests.support.wire import faults

CONNECTION = "550e8400-e29b-41d4-a716-446655440000"
START = 1_790_000_000.0
WORKER, PID = "celery@one", 11

Event = dict[str, Any]


class Cluster:
    """Makes events by a clock that advances a millisecond for each, so that their order is that of their times."""

    def __init__(self, *, redact: Redact | None = None, ignore_tasks: tuple[str, ...] = (), **options: Any) -> None:
        self.now = START
        self.emitted: list[Event] = []
        self.dropped: Counter[str] = Counter()
        sink = Sink(
            emit=self._emit,
            drop=self._drop,
            connection_id=CONNECTION,
            is_ignored=matcher(ignore_tasks),
            redact=redact,
        )
        self.tracker = Tracker(sink, **options)
        self.tracker.tick(self.now)

    def _emit(self, line: bytes) -> None:
        event = json.loads(line)
        assert faults(event) == []
        self.emitted.append(event)

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1

    # Input

    def event(self, kind: str, hostname: str = WORKER, pid: int = PID, **fields: Any) -> Event:
        """Return an event as it comes off the wire, not yet taken."""
        self.now += 0.001
        sender = {"hostname": hostname, "pid": pid, "utcoffset": -9, "clock": 1, "timestamp": self.now}
        return {"type": kind, **sender, **fields}

    def take(self, kind: str, *sender: Any, **fields: Any) -> None:
        """Let the tracker take an event; `sender` is a hostname and a pid."""
        self.tracker.take(self.event(kind, *sender, **fields))

    def task(self, kind: str, external_id: str = "job-1", *sender: Any, **fields: Any) -> None:
        """Take an event of a task; `task-received` and `task-sent` get the fields that Celery always adds."""
        parent_id = external_id if fields.get("retries") else None  # Celery makes a job the parent of its own retry
        message = {"name": "app.add", "args": "(1, 2)", "kwargs": "{}", "root_id": external_id, "parent_id": parent_id}
        usual = {**message, "retries": 0, "eta": None, "expires": None} if kind in ("received", "sent") else {}
        self.take(f"task-{kind}", *sender, uuid=external_id, **{**usual, **fields})

    def run(self, *kinds: str, external_id: str = "job-1") -> None:
        """Take a task's events, one after another, that need no more than their names."""
        usual = {"succeeded": {"result": "3", "runtime": 0.001}, "failed": {"exception": "ValueError('boom')"}}
        for kind in kinds:
            self.task(kind, external_id, **usual.get(kind, {}))

    def beat(self, *sender: Any, active: int = 0, **fields: Any) -> None:
        """Take a heartbeat."""
        usual = {"freq": 2.0, "active": active, "sw_ver": "5.7.0", "sw_sys": "Linux"}
        self.take("worker-heartbeat", *sender, **{**usual, **fields})

    def wait(self, seconds: float, *, beating: tuple[str, int] | None = None, active: int = 0) -> None:
        """Advance the clock, second by second, with a heartbeat of `beating` every other second."""
        end = self.now + seconds
        while self.now < end:
            self.now += 1.0
            self.tracker.tick(self.now)
            if beating and int(self.now) % 2:
                self.beat(*beating, active=active)

    # Output

    def jobs(self, external_id: str = "job-1") -> list[Event]:
        """Return the events emitted about a job, sorted by time."""
        events = [event for event in self.emitted if event.get("job", {}).get("externalId") == external_id]
        return sorted(events, key=lambda event: str(event["timestamp"]))

    def walk(self, external_id: str = "job-1") -> str:
        """Return a job's states; a later attempt's has its number."""
        steps = [event["job"] for event in self.jobs(external_id)]
        return " ".join(job["state"] + (f"/{job['attempt']}" if job.get("attempt", 1) > 1 else "") for job in steps)

    def ids(self, external_id: str = "job-1") -> list[str | None]:
        """Return the deduplication ids of the events emitted about a job."""
        return [event_id_of(event) for event in self.jobs(external_id)]

    def worker_states(self, hostname: str = WORKER, *, beats: bool = False) -> str:
        """Return the states emitted about a worker, in order; heartbeats are left out."""
        states = [
            event["worker"]["state"] for event in self.emitted if event.get("worker", {}).get("externalId") == hostname
        ]
        return " ".join(state for state in states if beats or state != "heartbeat")
