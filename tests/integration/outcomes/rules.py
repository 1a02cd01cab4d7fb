"""The rules for every event of a job, whatever its outcome."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sluice_agent.server.record.step import step_of
from sluice_agent.server.record.summary import walk
from tests.integration.outcomes.table import Outcome
from tests.support.endpoint import time_key

WAITING = ("queued", "scheduled")
FINAL = ("completed", "failed", "cancelled")

_EXTENSIONS = {"scheduled": ["eta"], "retrying": ["eta"], "completed": ["runtime"]}
_TYPE_AND_MESSAGE = re.compile(r"[A-Za-z_][\w.]*(: .*)?", re.DOTALL)
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):\n(  File .*\n\S|  \|   File .*\n  \+-)", re.DOTALL)

Event = dict[str, Any]


def violations(row: Outcome, events: list[Event], queue: str) -> list[str]:
    """Return a sentence for each rule that `events`, all events of one job that was sent to `queue`, break."""
    faults = [f"{_step(event)}: {fault}" for event in events for fault in _faults(row, event["job"])]
    times = [time_key(event["timestamp"]) for event in events]
    faults += ["the events are not in the order of their times"] if times != sorted(times) else []
    ids = [event["job"].get("extensions", {}).get("eventId") for event in events]
    faults += ["two events have the same id"] if len(set(ids)) != len(ids) else []
    queues = {event["job"].get("queue") for event in events}
    faults += [f"queues are {queues}, not {queue!r}"] if row.queue is not None and queues != {queue + row.queue} else []
    faults += _walk_faults(events)
    created = {event["job"].get("createdAt") for event in events}
    faults += [f"createdAt varies: {sorted(map(str, created))}"] if row.dated and len(created) > 1 else []
    return faults


def missing_extensions(event: Event, expected: Mapping[str, Any], broker: str) -> list[str]:
    """Return the differences of an event's extensions from `expected`; ``...`` stands for any value."""
    extensions = event["job"].get("extensions", {})
    if broker == "filesystem":  # it does not mark the messages that it delivers again
        expected = {name: value for name, value in expected.items() if name != "redelivered"}
    return [
        f"{_step(event)}: {name} is {extensions.get(name)!r}, not {value!r}"
        for name, value in expected.items()
        if name not in extensions or (value is not ... and extensions[name] != value)
    ]


def _faults(row: Outcome, job: Event) -> Iterator[str]:
    state, extensions = job["state"], job.get("extensions", {})
    if row.named and job.get("name", "unknown") == "unknown":
        yield "no name"
    yield from (f"no {name}" for name in _required_fields(row, job) if name not in job)
    names = ["celeryState", "rootId", "eventId", *_EXTENSIONS.get(state, ())]
    yield from (f"no extensions.{name}" for name in names if extensions.get(name) is None)
    if state not in FINAL and "completedAt" in job:
        yield "completedAt, although it has not ended"
    if _has_failed(job) and not _TYPE_AND_MESSAGE.fullmatch(job.get("error", "")):
        yield f"error is {job.get('error')!r}, not `Type: message`"
    if "stacktrace" in job and not _TRACEBACK.search(job["stacktrace"]):
        yield f"the stacktrace is not as Python prints it: {job['stacktrace'][:300]!r}"


def _required_fields(row: Outcome, job: Event) -> Iterator[str]:
    """Yield the fields that a job must have."""
    state = job["state"]
    yield "attempt"
    if row.dated:
        yield "createdAt"
    if state not in (*WAITING, "unknown"):  # no worker may ever receive it
        yield "workerId"
    if state in ("active", "completed", "retrying"):
        yield "startedAt"
    if state in FINAL:
        yield "completedAt"
    if _has_failed(job) and (state == "retrying" or row.traced):
        yield "stacktrace"


def _has_failed(job: Event) -> bool:
    """Return whether an attempt failed; one that succeeded may have published the next all the same."""
    return job["state"] in ("failed", "retrying") and job.get("extensions", {}).get("celeryState") != "SUCCESS"


def _walk_faults(events: list[Event]) -> Iterator[str]:
    """Yield the steps that a server refuses as illegal, and its final state if that is not the last event's."""
    if not events:
        return
    walked = walk(step_of(event, json.dumps(event).encode()) for event in events)
    yield from (f"{_step(step.event)} is not a legal step" for step in walked.excluded)
    state = walked.summary.history.entry.state
    if state != events[-1]["job"]["state"]:
        yield f"a server ends with {state}, not {events[-1]['job']['state']}"


def _step(event: Event) -> str:
    return f"{event['job']['state']}/{event['job'].get('attempt')}"
