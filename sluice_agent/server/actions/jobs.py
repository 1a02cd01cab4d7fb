"""A job as acting needs it, and the events by which the server itself links a job and its retry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, select

from sluice_agent.model import EventType, Framework, JobState
from sluice_agent.server.actions.retry import Retry
from sluice_agent.server.queries.stored_job import load_job
from sluice_agent.server.record.record import Record, record_of
from sluice_agent.server.record.step import Step
from sluice_agent.server.record.summary import walk
from sluice_agent.server.store import schema
from sluice_agent.server.validation import ReceivedEvent

_STATE_FIELDS = ("externalId", "name", "state", "attempt", "startedAt", "completedAt")
_LAST_INSTANT = 253_402_300_799_999_999_999  # of the year 9999, the last of the calendar
_KEPT = ("priority", "taskName", "stamps")  # extensions that a retry has as well


@dataclass(frozen=True, slots=True)
class ActedJob:
    """A job: its record, and the latest event of its state."""

    connection: int
    uuid: bytes
    record: Record
    last: Step


def acted_job(reader: Connection, uuid: bytes) -> ActedJob | None:
    """Return the job with Sluice's id `uuid`."""
    stored = load_job(reader, uuid)
    if stored is None:
        return None
    last = walk(stored.steps).last_state_steps[-1]
    return ActedJob(stored.connection, uuid, record_of(stored.steps), last)


def state_of(reader: Connection, uuid: bytes) -> int | None:
    """Return the code of a job's state; None if there is no such job."""
    return reader.scalar(select(schema.job.c.state).where(schema.job.c.uuid == uuid))


def queued_event(job: ActedJob, retry: Retry, task_id: str, created_at: str) -> ReceivedEvent:
    """Return the event that reports the new job `task_id`, a retry of `job`, as waiting since `created_at`."""
    record = job.record
    extensions = {
        **retry.call,
        **{name: record["extensions"][name] for name in _KEPT if name in record["extensions"]},
        "retryOf": record["externalId"],
        "rootId": task_id,
        "eventId": f"sluice.retry:{task_id}",
    }
    new = {
        "externalId": task_id,
        "name": record["name"],
        "queue": retry.message.queue,
        "state": JobState.QUEUED.value,
        "createdAt": created_at,
        "extensions": extensions,
    }
    return _event(created_at, record["connectionId"], new)


def link_event(job: ActedJob, name: str, task_id: str) -> ReceivedEvent:
    """Return the event that adds to `job` the extension `name`, retriedAs or retryOf, with the id of the other job.

    It repeats the state that the job is in, a nanosecond after the last event of that state: so it changes no other
    field, and replaces the link of an earlier retry.
    """
    repeated = {field: job.last.job[field] for field in _STATE_FIELDS if field in job.last.job}
    extensions = {name: task_id, "eventId": f"sluice.{name}:{task_id}"}
    timestamp = _timestamp(min(job.last.timestamp + 1, _LAST_INSTANT))
    return _event(timestamp, job.record["connectionId"], {**repeated, "extensions": extensions})


def _event(timestamp: str, connection_id: str, job: dict[str, Any]) -> ReceivedEvent:
    return {
        "type": EventType.JOB_STATE_CHANGE.value,
        "timestamp": timestamp,
        "framework": Framework.CELERY.value,
        "connectionId": connection_id,
        "job": job,
    }


def _timestamp(instant: int) -> str:
    seconds, nanoseconds = divmod(instant, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"
