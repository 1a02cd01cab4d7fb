"""What a job lets in: at most so many runs in a window of time, and no second run with the same payload within another
one. Runs of the future count up to the length of the window: later ones were made by a clock that was ahead."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.store.schema import run
from sluice_agent.server.errors import RefusedError

_SECOND = 1_000_000  # microseconds


def has_limits(job: Job) -> bool:
    """Return whether runs of a job are counted or compared: its row is locked meanwhile."""
    return bool(job.settings.dedup_window_secs) or _is_limited(job)


def check_rate(reader: Connection, job: Job, now: int) -> None:
    """Raise `RefusedError` (429), with the seconds until there is room, if a job has had as many runs as it may in the
    last window, of any origin and status."""
    wait = wait_for_rate(reader, job, now)
    if wait:
        most, window = job.settings.rate_limit_max, job.settings.rate_limit_window_secs
        message = f"The job may have {most} runs in {window} s, and has had them."
        raise RefusedError(429, message, headers={"Retry-After": str(wait)})


def wait_for_rate(reader: Connection, job: Job, now: int) -> int:
    """Return the seconds until a job may have another run by its rate limit; 0: it may now."""
    if not _is_limited(job):
        return 0
    most, window = job.settings.rate_limit_max, job.settings.rate_limit_window_secs
    oldest_counted = reader.scalar(_OLDEST_COUNTED, {"job": job.id, "newer": most - 1, "until": now + window * _SECOND})
    return 0 if oldest_counted is None else max(0, math.ceil((oldest_counted + window * _SECOND - now) / _SECOND))


def find_duplicate(reader: Connection, job: Job, payload_hash: str, now: int) -> Row[Any] | None:
    """Return the latest run of a job with this payload that was created within its dedup window, whatever became of it.
    None: there is none."""
    if not job.settings.dedup_window_secs:
        return None
    window = job.settings.dedup_window_secs * _SECOND
    wanted = {"job": job.id, "hash": payload_hash, "since": now - window, "until": now + window}
    return reader.execute(_DUPLICATE, wanted).one_or_none()


_NEWEST_FIRST = (run.c.created_at.desc(), run.c.id.desc())
_OLDEST_COUNTED = (
    select(run.c.created_at)
    .where(run.c.job_id == bindparam("job"), run.c.created_at <= bindparam("until"))
    .order_by(*_NEWEST_FIRST)
    .offset(bindparam("newer"))
    .limit(1)
)
_DUPLICATE = (
    select(run)
    .where(
        run.c.job_id == bindparam("job"),
        run.c.payload_hash == bindparam("hash"),
        run.c.created_at > bindparam("since"),
        run.c.created_at <= bindparam("until"),
    )
    .order_by(*_NEWEST_FIRST)
    .limit(1)
)


def _is_limited(job: Job) -> bool:
    return bool(job.settings.rate_limit_max and job.settings.rate_limit_window_secs)
