"""What a user is to know of a run whose outcome is an event: why it waits, and what is absent."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from sluice_agent.jobs.status import Status
from sluice_agent.jobs.task_events.overdue import NO_EVENT
from sluice_agent.server.timestamps import timestamp_of

_NOT_CONFIRMED = "the broker has not confirmed the message of the task, and no event of the task has arrived."
_NO_RESULT = (
    "the task has returned nothing, or its result was not captured: results are reported where SLUICE_CAPTURE_ARGS=1 "
    "is set for the worker's agent, or the sidecar"
)


def note_of(row: Row[Any]) -> str | None:
    """Return a note on a run; None if there is nothing to note, or if it is no Celery task."""
    if row.task_id is None:
        return None
    if row.status == Status.DEQUEUED.value:
        end = timestamp_of(row.claimed_until)
        if row.published_at is None:
            return f"{_NOT_CONFIRMED} Without one the run ends after {end}."
        return f"{NO_EVENT} Without one the run ends after {end}." if row.heartbeat_at is None else None
    return _NO_RESULT if row.status == Status.COMPLETED.value and row.result is None else None
