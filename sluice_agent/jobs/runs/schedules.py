"""Schedules: the jobs with a cron expression, when they fire, and what became of their firings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from sluice_agent.jobs.definitions.jobs import JOBS, Job, job_of
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.page import Page, PageRequest, read_page
from sluice_agent.jobs.store.schema import has_cron, job, run
from sluice_agent.server.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Schedule:
    """A job with a cron expression. `job.next_fire_at` is None while it is disabled. Times are microseconds since 1970.

    The last run's status is None if the run has been deleted. Firings are missed if no server makes them in time, and
    while the job is paused; they are skipped by the overlap policy, and by the job's rate limit.
    """

    job: Job
    last_fire_at: int | None
    last_run_id: str | None
    last_run_status: Status | None
    missed_count: int
    last_missed_at: int | None
    skipped_count: int
    last_skipped_at: int | None


def list_schedules(reader: Connection, project: str, wanted: PageRequest) -> Page[Schedule]:
    """Return a page of a project's schedules, that of the newest job first."""
    query = _SCHEDULES.where(job.c.project_id == project, has_cron)
    return read_page(reader, query, (job.c.created_at, job.c.id), wanted, _schedule_of)


def find_schedule(reader: Connection, job_id: str, project: str | None) -> Schedule:
    """Return the schedule of a job. Raises `RefusedError` (404) if there is no such job, or if it has none."""
    row = reader.execute(_SCHEDULES.where(job.c.id == job_id)).one_or_none()
    if row is None or project not in (None, row.project_id):
        raise RefusedError(404, "Job not found.")
    if not row.has_cron:
        raise RefusedError(404, "The job has no schedule: give it one by the setting cron.")
    return _schedule_of(row)


_COUNTS = ("last_fire_at", "missed_count", "last_missed_at", "skipped_count", "last_skipped_at")
_SCHEDULES = JOBS.add_columns(run.c.status.label("last_run_status")).outerjoin(run, run.c.id == job.c.last_fired_run_id)


def _schedule_of(row: Row[Any]) -> Schedule:
    return Schedule(
        job=job_of(row),
        last_run_id=row.last_fired_run_id,
        last_run_status=None if row.last_run_status is None else Status(row.last_run_status),
        **{name: getattr(row, name) for name in _COUNTS},
    )
