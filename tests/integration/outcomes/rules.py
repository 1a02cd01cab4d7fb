"""What holds of every event of a job, whatever became of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.integration.outcomes.table import Outcome
from tests.support.endpoint import time_key

WAITING = ("queued", "scheduled")
FINAL = ("completed", "failed", "cancelled")

_TYPE_AND_MESSAGE = re.compile(r"[A-Za-z_][\w.]*(: .*)?", re.DOTALL)
_PRINTED = re.compile(r"Traceback \(most recent call last\):\n  File .*\n\S", re.DOTALL)

Event = dict[str, Any]


def broken(row: Outcome, events: list[Event], queue: str) -> list[str]:
    """What in `events`, all that was told of one job, breaks a rule; in sentences. `queue` is where it was sent."""
    found = [f"{_step(event)}: {fault}" for event in events for fault in _faults(row, event["job"])]
    moments = [time_key(event["timestamp"]) for event in events]
    found += ["the events are not in the order of their times"] if moments != sorted(moments) else []
    ids = [event["job"].get("extensions", {}).get("eventId") for event in events]
    found += ["two events have one id"] if len(set(ids)) != len(ids) else []
    queues = {event["job"].get("queue") for event in events}
    found += [f"queues are {queues}, not {queue!r}"] if row.queue is not None and queues != {queue + row.queue} else []
    created = {event["job"].get("createdAt") for event in events}
    found += [f"createdAt varies: {sorted(map(str, created))}"] if row.dated and len(created) > 1 else []
    return found


def _faults(row: Outcome, job: Event) -> Iterator[str]:
    state, extensions = job["state"], job.get("extensions", {})
    if row.named:
        yield from () if job.get("name", "unknown") != "unknown" else ("no name",)
    yield from (f"no extensions.{name}" for name in ("celeryState", "rootId", "eventId") if not extensions.get(name))
    if "attempt" not in job:
        yield "no attempt"
    if row.dated and "createdAt" not in job:
        yield "no createdAt"
    if state not in WAITING and "workerId" not in job:
        yield "no workerId"
    if state in ("active", "completed", "retrying") and "startedAt" not in job:
        yield "no startedAt"
    if state in FINAL and "completedAt" not in job:
        yield "no completedAt"
    if state not in FINAL and "completedAt" in job:
        yield "completedAt, and it has not ended"
    if state in ("failed", "retrying") and not _TYPE_AND_MESSAGE.fullmatch(job.get("error", "")):
        yield f"error is {job.get('error')!r}, not `Type: message`"
    if "stacktrace" in job and not _PRINTED.search(job["stacktrace"]):
        yield f"the stacktrace is not as Python prints it: {job['stacktrace'][:300]!r}"


def _step(event: Event) -> str:
    return f"{event['job']['state']}/{event['job'].get('attempt')}"
