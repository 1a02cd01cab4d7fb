"""The frames of the stream: a frame is a change of what a record shows, in the documented fields."""

from __future__ import annotations

import json
from typing import Any

from sluice_agent.server.record.frames import WORKER_HEARTBEAT, FrameBlock, job_frame, queue_frame, worker_frame
from sluice_agent.server.record.ids import job_id, job_uuid
from sluice_agent.server.record.summary import walk
from tests.support.records import steps_of
from tests.unit.server.events import CONNECTION, at, job_event

UUID = job_uuid(CONNECTION, "job-1")


def framed(before: list[dict[str, Any]], *events: dict[str, Any]) -> dict[str, Any] | None:
    """Return the data of the frame that `events` send if the job has the events `before`."""
    summary = walk(steps_of(before)).summary if before else None
    change = job_frame(UUID, summary, walk(steps_of([*before, *events])).summary)
    if change is None:
        return None
    heartbeat = worker_frame(WORKER_HEARTBEAT, "d4e5f6a7", "celery@worker-1", "online", 3)
    (frame,), mixed = FrameBlock.of([change]), FrameBlock.of([change, heartbeat])
    assert (list(mixed), len(mixed)) == ([frame, heartbeat], 2)
    assert frame.event == "job:state_change"
    assert "\n" not in frame.data
    data: dict[str, Any] = json.loads(frame.data)
    return data


QUEUED, ACTIVE = job_event("queued", 0, createdAt=at(0)), job_event("active", 1, startedAt=at(1))
COMPLETED = job_event("completed", 2, startedAt=at(1))


def test_a_frame_has_the_documented_fields_in_their_order() -> None:
    """Pages that follow the vendor's document would otherwise find no id, or no name."""
    assert framed([QUEUED], ACTIVE) == {
        "id": job_id(CONNECTION, "job-1"),
        "name": "app.tasks.send_email",
        "state": "active",
        "previousState": "queued",
        "timestamp": at(1),
    }
    data = framed([], job_event("queued", 0, name='a "quoted"\nname\u2028'))
    assert data is not None
    assert list(data) == ["id", "name", "state", "previousState", "timestamp"]
    assert (data["name"], data["previousState"]) == ('a "quoted"\nname\u2028', None)


def test_what_changes_no_state_sends_nothing() -> None:
    """A page would otherwise set a job that has ended back to queued."""
    assert framed([ACTIVE, COMPLETED], QUEUED) is None
    assert framed([QUEUED, ACTIVE, COMPLETED], job_event("active", 1.5, startedAt=at(1), workerId="celery@a")) is None
    assert framed([QUEUED, ACTIVE], job_event("active", 1.5, startedAt=at(1), workerId="celery@a")) is None


def test_a_correction_is_sent() -> None:
    """A job that was reported lost would otherwise stay failed on a page that is open."""
    failed = job_event("failed", 2, startedAt=at(1), error="WorkerLostError: gone")
    data = framed([ACTIVE, failed], job_event("completed", 3, startedAt=at(1)))
    assert data is not None
    assert (data["state"], data["previousState"], data["timestamp"]) == ("completed", "failed", at(3))


def test_another_attempt_in_the_same_state_is_sent() -> None:
    """A page would otherwise show the start of the first attempt during the second."""
    first, second = job_event("active", 1, attempt=1), job_event("active", 5, attempt=2)
    data = framed([first], second)
    assert data is not None
    assert (data["state"], data["previousState"], data["timestamp"]) == ("active", "active", at(5))


def test_progress_is_sent_with_the_state_unchanged() -> None:
    """A progress bar would otherwise move only when the page is loaded anew."""
    half = job_event("active", 1.5, startedAt=at(1), progress=0.5)
    data = framed([QUEUED, ACTIVE], half)
    assert data is not None
    changed = (data["state"], data["previousState"], data["timestamp"], data["progress"])
    assert changed == ("active", "active", at(1.5), 0.5)
    assert framed([QUEUED, ACTIVE, half], job_event("active", 1.7, startedAt=at(1), progress=0.5)) is None
    ended = framed([QUEUED, ACTIVE, half], COMPLETED)
    assert ended is not None
    assert "progress" not in ended


def test_frames_of_workers_and_queues_have_the_documented_fields() -> None:
    """Pages that follow the vendor's document would otherwise not find them."""
    worker = worker_frame(WORKER_HEARTBEAT, "d4e5f6a7", "celery@worker-1", "online", 3)
    assert worker.event == "worker:heartbeat"
    assert worker.data == '{"id":"d4e5f6a7","hostname":"celery@worker-1","state":"online","activeJobs":3}'
    assert queue_frame("default", 42, None).data == '{"name":"default","depth":42,"consumers":null}'
