"""Jobs that are paused: runs are made and keep their place, but none starts until the job is resumed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select, update

from sluice_agent.jobs.definitions.jobs import Change, Job, find_job
from sluice_agent.jobs.definitions.schedule import firings_between, is_in_grace
from sluice_agent.jobs.store.schema import job


def pause_job(writer: Connection, found: Job, change: Change) -> Job:
    """Pause a job, whose row is locked, and return it. Attempts that have started go on to their end."""
    if found.paused_at is not None:
        return found
    return _change(writer, found, change, paused_at=change.moment)


def resume_job(writer: Connection, found: Job, change: Change) -> Job:
    """Resume a job, whose row is locked, and return it. A firing that was missed meanwhile, and is not too old, is
    made."""
    if found.paused_at is None:
        return found
    values: dict[str, Any] = {"paused_at": None}
    query = select(job.c.last_missed_at, job.c.missed_before_at).where(job.c.id == found.id)
    ((missed_at, before),) = writer.execute(query)
    if missed_at is not None and missed_at >= found.paused_at and _can_be_made(found, missed_at, change.moment):
        values |= {"next_fire_at": missed_at, "missed_count": job.c.missed_count - 1, "last_missed_at": before}
    return _change(writer, found, change, **values)


def _can_be_made(of: Job, firing: int, now: int) -> bool:
    """Return whether a firing that was missed is still one of the schedule, and not too old."""
    cron, zone = of.settings.cron, of.settings.timezone
    is_firing = of.next_fire_at is not None and firings_between(cron, zone, firing, firing + 1, 1)
    return bool(is_firing) and is_in_grace(of.settings, firing, now)


def _change(writer: Connection, of: Job, change: Change, **values: Any) -> Job:
    author = {"updated_by": change.author, "updated_at": change.moment}
    writer.execute(update(job).where(job.c.id == of.id).values(**author, **values))
    return find_job(writer, of.id, None)
