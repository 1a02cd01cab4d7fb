"""How lines are recognised, for the bytes that the encoders make: neither may change without the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sluice_agent.event import Event
from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents, JobFacts, queue_event, worker_event
from sluice_agent.model import EventType, WorkerState
from sluice_agent.transport.journal.line import (
    VITAL_PREFIXES,
    Kind,
    address,
    address_prefix,
    addressed_event,
    are_events,
    drop_line,
    drops_in,
    is_addressed,
    is_event,
    kind_of,
    may_be_job_change,
)
from tests.unit.transport.lines import CONNECTION

NOW = "2026-01-01T00:00:00Z"
JOB = JobEvents(CONNECTION, JobFacts("job-1", "app.add", queue="q", worker_id="w@h"))
PROGRESS = JOB.event(transitions.PROGRESSED, NOW, progress=0.5)


def worker(state: WorkerState) -> bytes:
    """Return a worker's event, as both observers make it."""
    return worker_event(CONNECTION, "w@h", 1, state, 0.0, metadata={"pool": "solo"}, activeJobs=1)


ENCODED = [
    # name, line, kind, whether it is a vital, and the job's state that a filter finds in it
    ("job", JOB.event(transitions.SUCCEEDED, NOW, runtime=0.5), Kind.TRANSITION, False, "completed"),
    ("failed job", JOB.event(transitions.FAILED, NOW, error='"state":"x"'), Kind.TRANSITION, False, "failed"),
    ("progress", PROGRESS, Kind.PROGRESS, False, "active"),
    ("worker online", worker(WorkerState.ONLINE), Kind.TRANSITION, False, ""),
    ("worker offline", worker(WorkerState.OFFLINE), Kind.TRANSITION, False, ""),
    ("worker busy", worker(WorkerState.BUSY), Kind.HEARTBEAT, False, ""),
    ("worker idle", worker(WorkerState.IDLE), Kind.HEARTBEAT, False, ""),
    ("heartbeat", worker(WorkerState.HEARTBEAT), Kind.HEARTBEAT, True, ""),
    ("queue", queue_event(CONNECTION, "q", 7, 1, 0.0), Kind.QUEUE, True, ""),
]


def every_line() -> Iterator[object]:
    """Yield each event as its encoder writes it, and as it is after a user's `before_send`."""
    for name, line, *expected in ENCODED:
        yield pytest.param(line, *expected, id=name)
        yield pytest.param(Event.model_validate_json(line).to_json(), *expected, id=f"{name}, from the model")


@pytest.mark.parametrize(("line", "kind", "is_vital", "state"), every_line())
def test_an_encoded_event_is_recognised(line: bytes, kind: Kind, is_vital: bool, state: str) -> None:
    """Whoever reorders an encoder's fields would silently change what is evicted, thinned out and sent to Ackly."""
    assert is_event(line)
    assert are_events([line, line])
    assert kind_of(line) is kind
    assert line.startswith(VITAL_PREFIXES) is is_vital
    states = ("completed", "failed", "active")
    assert [name for name in states if may_be_job_change(line, (name,))] == ([state] if state else [])
    assert may_be_job_change(line, states) is bool(state)


def test_every_type_of_event_is_among_them() -> None:
    """A new type would be written to a lane, and thinned out, by chance."""
    assert {Event.model_validate_json(line).type for _, line, *_ in ENCODED} == set(EventType)


def test_an_addressed_event_is_read_by_its_destination_only() -> None:
    """A dead letter that is retried for Ackly would be sent to Sluice once more."""
    line = address(PROGRESS, "ackly")
    assert is_addressed(line)
    assert not is_event(line)
    assert addressed_event(line, address_prefix("ackly")) == PROGRESS
    assert addressed_event(line, address_prefix("sluice")) is None
    assert addressed_event(address(b"rubbish", "ackly"), address_prefix("ackly")) is None


def test_drops_are_counted_where_they_belong() -> None:
    """What one destination was too slow for would be missing in the accounts of the others."""
    for_all, for_one = drop_line({"disk": 3}), drop_line({"journal_full": 2, "disk": 1}, "ackly")
    assert [drops_in(for_all, name) for name in ("sluice", "ackly")] == [{"disk": 3}] * 2
    assert drops_in(for_one, "ackly") == {"journal_full": 2, "disk": 1}
    assert drops_in(for_one, "sluice") == {}
    assert drops_in(b"rubbish", "sluice") == {"corrupt": 1}
    assert not is_event(for_all)
    assert not are_events([PROGRESS, for_all])
    assert not are_events([PROGRESS, PROGRESS[:-4]])
