"""The present state of a Celery task, read from the database of events."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from sluice_agent.model import JobState
from sluice_agent.server.queries.stored_job import StoredJob, load_job
from sluice_agent.server.record.record import record_of_walk
from sluice_agent.server.record.summary import walk

_LONGEST_ERROR = 16_384  # characters that are kept


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The present state of a task. Times are microseconds since 1970, by the clock of its worker."""

    state: JobState
    started_at: int | None
    """The start of its last execution."""
    completed_at: int | None
    eta: int | None
    error: str | None
    result: str | None
    """JSON; None if it was not captured."""
    is_expired: bool
    """True if a worker has discarded its message, as that had expired."""
    was_stopped: bool
    """True if it was ended as its worker stopped."""

    @property
    def has_begun(self) -> bool:
        """True if a worker has begun to execute it, or has ended it without."""
        return self.started_at is not None or self.was_stopped or self.state in _BEGUN


_BEGUN = (JobState.ACTIVE, JobState.RETRYING, JobState.COMPLETED, JobState.FAILED)


def read_reports(reader: Connection, uuids: Collection[bytes]) -> Mapping[bytes, TaskReport]:
    """Return what is known of tasks, by Sluice's ids of them; those without events are absent."""
    found = ((uuid, load_job(reader, uuid)) for uuid in uuids)
    return {uuid: _report_of(stored) for uuid, stored in found if stored is not None}


def _report_of(stored: StoredJob) -> TaskReport:
    walked = walk(stored.steps)
    extensions = record_of_walk(walked)["extensions"]
    summary = walked.summary
    state = JobState(summary.state)
    return TaskReport(
        state,
        summary.started_at,
        summary.completed_at,
        summary.scheduled_for,
        _storable(summary.error),
        json.dumps(extensions["result"]) if "result" in extensions else None,
        is_expired=state is JobState.CANCELLED and extensions.get("expired") is True,
        was_stopped=state is JobState.CANCELLED and "reason" in extensions,
    )


def _storable(error: str | None) -> str | None:
    """Return an error as every database stores it."""
    if error is None:
        return None
    text = error[:_LONGEST_ERROR].replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return text.encode("utf-8", "replace").decode()
