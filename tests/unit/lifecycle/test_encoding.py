"""Timestamps, times as Celery writes them, and events that are encoded without the model."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.event import Event
from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents, JobFacts, job_id, pool_name, queue_event, worker_event
from sluice_agent.lifecycle.timestamps import seconds_from_iso, timestamp, timestamp_from_iso
from sluice_agent.model import JobState, WorkerState
from tests.support.wire import faults

CONNECTION = str(uuid.uuid4())
AT = 1_767_225_600.25

times = st.floats(min_value=-(2**31), max_value=2**33, allow_nan=False)
zones = st.timezones() | st.just(timezone.utc)


@given(times)
def test_a_timestamp_is_datetimes_own_to_the_microsecond(seconds: float) -> None:
    """A time that is off by a microsecond sorts two transitions of a fast job into the wrong order."""
    expected = datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds")
    assert timestamp(seconds) == expected.removesuffix("+00:00") + "Z"


@given(times, times)
def test_timestamps_sort_as_their_times_do(first: float, second: float) -> None:
    """The endpoint orders a job's states by these texts."""
    early, late = sorted((first, second))
    assert timestamp(early) <= timestamp(late)


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_a_time_that_passes_through_a_header_does_not_drift(moment: datetime) -> None:
    """`createdAt` is written by the producer and read by the worker: both must send the same time."""
    text = moment.isoformat(timespec="microseconds") + "Z"
    assert timestamp_from_iso(text) == text


@given(st.datetimes(datetime(1971, 1, 1), datetime(2199, 1, 1), timezones=zones))
def test_a_time_with_a_zone_is_converted_to_utc(moment: datetime) -> None:
    """An ETA in the user's own zone would be shown hours away from when the job runs."""
    assert timestamp_from_iso(moment.isoformat()) == timestamp_from_iso(moment.astimezone(timezone.utc).isoformat())


@pytest.mark.parametrize(
    "text",
    ["2026-01-02T03:04:05", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00", "2026-01-02T05:04:05.000000+02:00"],
)
def test_the_forms_that_celery_writes(text: str) -> None:
    """Celery writes times with and without a zone; those without are UTC, regardless of the host's zone."""
    assert timestamp_from_iso(text) == "2026-01-02T03:04:05.000000Z"
    assert seconds_from_iso(text) == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize("text", [None, "", "soon", "2026-13-01T00:00:00", "Z", 12])
def test_a_text_that_is_no_time_gives_none(text: str | None) -> None:
    """A malformed ETA from another client must not cost the event that carries it."""
    assert timestamp_from_iso(text) is None
    assert seconds_from_iso(text) is None


@given(st.text(max_size=700), st.text(max_size=1500), st.text(max_size=300), st.text(max_size=600))
def test_events_encoded_without_the_model_keep_the_contract(job_id: str, name: str, queue: str, worker: str) -> None:
    """Nearly every event is encoded without the model: a fault there would have batches refused."""
    facts = JobFacts(job_id or "id", name, queue=queue, worker_id=worker, created_at=timestamp(AT), max_retries=3)
    events = JobEvents(CONNECTION, facts)
    for event in (
        json.loads(events.event(transitions.STARTED, timestamp(AT), started=timestamp(AT), progress=0.5)),
        json.loads(events.event(transitions.FAILED, timestamp(AT), error="E: " + name, stacktrace=name * 60, eta=None)),
        json.loads(
            worker_event(
                CONNECTION, worker or "w", 0, WorkerState.BUSY, AT, metadata={"pool": name}, queues=[queue or "q"]
            )
        ),
        json.loads(queue_event(CONNECTION, name or "q", 0, None, AT)),
    ):
        assert faults(event) == []
        assert Event.model_validate(event).to_wire() == event


def test_an_event_has_the_known_fields_and_no_others() -> None:
    """A field that is null or missing is a gap on the job's page, or a refused batch."""
    facts = JobFacts("id", "", attempt=2, extensions={"rootId": "r"})
    line = JobEvents(CONNECTION, facts).event(
        transitions.SUCCEEDED,
        timestamp(AT),
        previous=JobState.ACTIVE,
        started=timestamp(AT - 1),
        runtime=1.0,
        eta=None,
    )
    event = json.loads(line)
    event_id = event["job"]["extensions"].pop("eventId")
    assert re.fullmatch(r"id\.2\.[0-9a-f]{32}\.completed", event_id)
    assert event == {
        "type": "job_state_change",
        "timestamp": "2026-01-01T00:00:00.250000Z",
        "framework": "celery",
        "connectionId": CONNECTION,
        "job": {
            "externalId": "id",
            "name": "unknown",
            "attempt": 2,
            "state": "completed",
            "previousState": "active",
            "startedAt": "2025-12-31T23:59:59.250000Z",
            "completedAt": "2026-01-01T00:00:00.250000Z",
            "extensions": {"rootId": "r", "celeryState": "SUCCESS", "runtime": 1.0},
        },
    }


def test_two_observers_of_a_worker_going_online_report_one_event() -> None:
    """Under two ids it would come online twice; one that has been away for a moment does, and must not stay offline."""
    first, second, later = (
        json.loads(worker_event(CONNECTION, "celery@a", 7, WorkerState.ONLINE, at, metadata={"pool": "prefork"}))
        for at in (AT, AT, AT + 2)
    )
    assert faults(first) == []
    assert first["worker"]["metadata"]["eventId"] == second["worker"]["metadata"]["eventId"]
    assert first["worker"]["metadata"]["eventId"] != later["worker"]["metadata"]["eventId"]
    assert (first["worker"]["externalId"], first["worker"]["hostname"]) == ("celery@a", "a")


@pytest.mark.parametrize("count", [-1, 1.5, "1", True])
def test_a_count_that_is_none_is_not_sent(count: Any) -> None:
    """A pool or a broker of a user's own may count in any way: one such event has a whole batch refused."""
    with pytest.raises(ValueError, match="no count"):
        worker_event(CONNECTION, "a", 7, WorkerState.ONLINE, AT, metadata={}, concurrency=count)
    with pytest.raises(ValueError, match="no count"):
        queue_event(CONNECTION, "q", count, 0, AT)


def test_a_queue_without_a_name_is_not_sent() -> None:
    """As above."""
    with pytest.raises(ValueError, match="no name"):
        queue_event(CONNECTION, "", 0, 0, AT)


def test_heartbeats_have_different_ids() -> None:
    """Heartbeats under one id would all be duplicates but the first, and the worker would be shown offline."""
    beats = [
        json.loads(worker_event(CONNECTION, "a", 7, WorkerState.HEARTBEAT, AT + n * 5, within=1, metadata={}))
        for n in (0, 1)
    ]
    assert {beat["type"] for beat in beats} == {"worker_heartbeat"}
    assert len({beat["worker"]["metadata"]["eventId"] for beat in beats}) == 2


def test_an_extension_of_the_event_replaces_that_of_the_message() -> None:
    """An object with a duplicate name is refused by strict servers, and its batch with it."""
    facts = JobFacts("id", "name", extensions={"rootId": "r", "eta": "2026-01-01T00:00:00.000000Z"})
    events = JobEvents(CONNECTION, facts)
    line = events.event(transitions.RETRIED, timestamp(AT), eta="2026-01-02T00:00:00.000000Z")
    assert line.count(b'"eta"') == 1
    assert json.loads(line)["job"]["extensions"]["eta"] == "2026-01-02T00:00:00.000000Z"
    assert b'"eta":"2026-01-01' in events.event(transitions.SUCCEEDED, timestamp(AT), eta=None)


@pytest.mark.parametrize("started", [AT + 1e-6, 3_591_000_000.0, 12_345.0])
def test_an_impossible_start_is_left_out(started: float) -> None:
    """A job that Celery gave to a process that had just gone was cancelled in 2026, and started in 2083."""
    events = JobEvents(CONNECTION, JobFacts("id", "name"))
    line = events.event(transitions.REVOKED, timestamp(AT), started=timestamp(started))
    assert "startedAt" not in json.loads(line)["job"]


@pytest.mark.parametrize(("created", "shown"), [(AT + 5, AT), (AT - 5, AT - 5), (AT, AT), (12_345.0, None)])
def test_no_job_is_created_after_its_events(created: float, shown: float | None) -> None:
    """A producer whose clock is ahead would have its jobs wait for less than no time."""
    events = JobEvents(CONNECTION, JobFacts("id", 'a "createdAt" name', created_at=timestamp(created)))
    job = json.loads(events.event(transitions.STARTED, timestamp(AT), started=timestamp(AT)))["job"]
    assert job.get("createdAt") == (timestamp(shown) if shown else None)
    assert job["startedAt"] == timestamp(AT)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-02-27T10:00:00.123456789Z", "2026-02-27T10:00:00.123456Z"),
        ("2026-02-27T10:00:00+0000", "2026-02-27T10:00:00.000000Z"),
        ("2026-02-27T10:00:00+01", "2026-02-27T09:00:00.000000Z"),
        ("2026-02-27T10:00:00.5Z", "2026-02-27T10:00:00.500000Z"),
        ("2026-02-27T10:00:00,25-01:30", "2026-02-27T11:30:00.250000Z"),
        ("20260227T100000Z", "2026-02-27T10:00:00.000000Z"),
        ("2026-02-27 10:00", "2026-02-27T10:00:00.000000Z"),
        ("2026-02-27T24:00", "2026-02-28T00:00:00.000000Z"),
        ("2026-02-27", "2026-02-27T00:00:00.000000Z"),
        ("2026-02-30T10:00:00Z", None),
        ("2026-02-27T25:00:00Z", None),
        ("2026-02-27T10:00:00+99:00", None),
        ("tomorrow", None),
    ],
)
def test_a_time_is_read_as_celery_reads_it_on_every_python(text: str, moment: str | None) -> None:
    """Other programs write ETAs in other ways; Celery waits for them, and so the job must be shown as scheduled."""
    assert timestamp_from_iso(text) == moment


def test_ids_that_differ_at_their_end_are_two_jobs() -> None:
    """A caller may derive ids from what a task is about; two jobs under one id would be one that starts again."""
    first, second = "order:" * 200 + "1", "order:" * 200 + "2"
    assert job_id(first) != job_id(second)
    assert len(job_id(first)) == 512
    assert job_id(first).startswith("order:order:")
    events = [
        json.loads(JobEvents(CONNECTION, JobFacts(an_id, "t")).event(transitions.QUEUED, timestamp(AT)))
        for an_id in (first, second)
    ]
    assert len({event["job"]["externalId"] for event in events}) == 2


@pytest.mark.parametrize(
    ("module", "name"),
    [("celery.concurrency.thread", "threads"), ("celery.concurrency.prefork", "prefork"), ("pools", "pools"), ("", "")],
)
def test_a_pool_has_its_name_on_the_command_line(module: str, name: str) -> None:
    """A worker would have a pool `thread`, which `celery worker --pool` does not know."""
    assert pool_name(module) == name
