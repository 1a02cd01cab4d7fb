"""Firings of cron expressions: each makes a run, unless it comes too late, or the job's limits forbid it.

A job's `next_fire_at` is changed in the transaction that makes the run, and no job has two runs of one minute: a unique
index sees to that, however many servers there are.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from sluice_agent.jobs.definitions.jobs import JOBS, Change, Job, find_job, job_of
from sluice_agent.jobs.definitions.schedule import counted_as_missed, due, next_firing
from sluice_agent.jobs.runs.admission import wait_for_rate
from sluice_agent.jobs.runs.runs import cancel_run
from sluice_agent.jobs.runs.trigger import make_run, want_by_cron
from sluice_agent.jobs.store.schema import is_fired, job, run
from sluice_agent.log import log_failure

MOST = 100
"""Jobs whose firings one transaction makes: others write as well."""

_AUTHOR = "system:cron"


def fire(writer: Connection, now: int) -> int:
    """Make the firings whose time has come, of a limited number of jobs, and return of how many they were made."""
    count = 0
    for job_id in writer.scalars(_DUE_LOCKED, {"now": now, "most": MOST}).all():
        try:
            with writer.begin_nested():
                _fire(writer, find_job(writer, job_id, None), now)
            count += 1
        except DBAPIError:
            raise
        except Exception as error:  # noqa: BLE001 - the schedules of all other jobs go on
            log_failure(error, "A firing of the job %s failed: it is tried again", job_id)
    return count


def set_back(writer: Connection, now: int) -> None:
    """Let schedules fire next as their expressions have it, if that is earlier than what a clock that was ahead has
    stored. No minute has a second run."""
    for of in [job_of(row) for row in writer.execute(_SCHEDULED)]:
        firing = next_firing(of.settings, now)
        if firing is not None and of.next_fire_at is not None and firing < of.next_fire_at:
            is_same = (job.c.id == of.id) & (job.c.next_fire_at == of.next_fire_at)
            writer.execute(update(job).where(is_same).values(next_fire_at=firing))


def _fire(writer: Connection, of: Job, now: int) -> None:
    """Make or drop the firings of a job that have come, and count those that are dropped."""
    if of.next_fire_at is None:
        return
    found = due(of.settings, of.next_fire_at, now)
    values: dict[str, Any] = {"next_fire_at": found.next}
    if not found.is_in_time or of.paused_at is not None:
        values |= counted_as_missed(found)
    else:
        if found.before is not None:
            values |= {"missed_count": job.c.missed_count + found.passed - 1, "last_missed_at": found.before}
        values |= _make(writer, of, found.latest, now)
    writer.execute(update(job).where(job.c.id == of.id).values(values))


def _make(writer: Connection, of: Job, firing: int, now: int) -> dict[str, Any]:
    """Make the run of a firing, and return what the job records of it."""
    policy = of.settings.cron_overlap_policy
    overlaps = policy == "skip" and writer.execute(_ONE_EARLIER, {"job": of.id}).first() is not None
    if overlaps or wait_for_rate(writer, of, now):
        return {"skipped_count": job.c.skipped_count + 1, "last_skipped_at": firing}
    if policy == "cancel_running":
        for row in writer.execute(_EARLIER, {"job": of.id}).all():
            cancel_run(writer, row, now)
    try:
        with writer.begin_nested():
            made = make_run(writer, of, want_by_cron(of, firing), Change(_AUTHOR, now))
    except IntegrityError:  # the job has a run of this minute
        return {}
    return {"last_fire_at": firing, "last_fired_run_id": made.id}


_DUE = (
    select(job.c.id)
    .where(job.c.next_fire_at.is_not(None), job.c.next_fire_at <= bindparam("now"))
    .order_by(job.c.next_fire_at)
    .limit(bindparam("most", type_=job.c.version.type))
)
_SCHEDULED = JOBS.where(job.c.next_fire_at.is_not(None))
HAS_DUE = _DUE.exists()
"""The condition under which the time of a firing has come."""

_DUE_LOCKED = _DUE.with_for_update(skip_locked=True)
_IS_EARLIER = (run.c.job_id == bindparam("job"), is_fired)
_ONE_EARLIER = select(run.c.id).where(*_IS_EARLIER).order_by(run.c.id).limit(1)
_EARLIER = select(run).where(*_IS_EARLIER).order_by(run.c.id).with_for_update()
