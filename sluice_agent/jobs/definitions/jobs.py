"""Jobs in the database. All functions work in the transaction of their connection."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, exists, func, insert, literal, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from sluice_agent.jobs.definitions.schedule import counted_as_missed, due, next_firing
from sluice_agent.jobs.definitions.settings import JobSettings, settings_from
from sluice_agent.jobs.json_text import canonical
from sluice_agent.jobs.status import UNDER_WAY
from sluice_agent.jobs.store.id_lists import id_list
from sluice_agent.jobs.store.ids import new_id, new_version_id
from sluice_agent.jobs.store.page import Page, PageRequest, Position, read_page
from sluice_agent.jobs.store.schema import (
    attempt,
    batch,
    dependency,
    job,
    job_limit,
    job_tag,
    job_version,
    limited_start,
    run,
    run_log,
    run_tag,
    webhook_attempt,
    webhook_delivery,
)
from sluice_agent.server.errors import RefusedError


class Lock(Enum):
    """How a transaction locks a job's row until its end: against its deletion, or against any other lock."""

    SHARED = "shared"
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True, slots=True)
class Job:
    """A job with its current version. Times are microseconds since 1970."""

    id: str
    project_id: str
    enabled: bool
    version: int
    version_id: str
    settings: JobSettings
    created_by: str | None
    updated_by: str | None
    created_at: int
    updated_at: int
    paused_at: int | None = None
    next_fire_at: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes something, and when in microseconds since 1970."""

    author: str
    moment: int


def list_jobs(
    reader: Connection,
    project: str,
    wanted: PageRequest,
    *,
    slug: str | None = None,
    tag: tuple[str, str | None] | None = None,
) -> Page[Job]:
    """Return a page of a project's jobs: with this slug, and with a tag, of any value if that is None."""
    query = JOBS.where(job.c.project_id == project)
    if slug is not None:
        query = query.where(job.c.slug == slug)
    if tag is not None:
        has_tag = exists().where(job_tag.c.job_id == job.c.id, job_tag.c.key == tag[0])
        query = query.where(has_tag if tag[1] is None else has_tag.where(job_tag.c.value == tag[1]))
    return read_page(reader, query, (job.c.created_at, job.c.id), wanted, job_of)


def search_jobs(reader: Connection, project: str, wanted: PageRequest, text: str) -> Page[Job]:
    """Return a page of the jobs of a project with `text` in their slug or name, the newest first."""
    text = text.lower()
    in_json = canonical(text)[1:-1]
    may_match = func.lower(job.c.slug).contains(text, autoescape=True) | func.lower(job_version.c.settings).contains(
        in_json, autoescape=True
    )
    query = JOBS.where(job.c.project_id == project, may_match).order_by(job.c.created_at.desc(), job.c.id.desc())
    if wanted.after is not None:
        query = query.where(tuple_(job.c.created_at, job.c.id) < tuple_(*map(literal, wanted.after)))
    matching = (found for found in map(job_of, reader.execute(query)) if _has_text(found, text))
    found = list(islice(matching, wanted.limit + 1))
    shown = found[: wanted.limit]
    last = Position(shown[-1].created_at, shown[-1].id) if len(found) > len(shown) else None
    return Page(shown, last)


def _has_text(of: Job, text: str) -> bool:
    return text in of.settings.slug.lower() or text in of.settings.name.lower()


def list_projects(reader: Connection) -> list[str]:
    """Return the projects that have jobs, the one with the newest job first."""
    query = select(job.c.project_id).group_by(job.c.project_id).order_by(func.max(job.c.created_at).desc())
    return list(reader.scalars(query))


def find_job(reader: Connection, job_id: str, project: str | None, lock: Lock | None = None) -> Job:
    """Return a job. Raises `RefusedError` (404) if there is none, or if it is not of the `project` that is demanded."""
    if lock is not None:
        _lock(reader, [job_id], lock)
    row = reader.execute(_JOB_BY_ID, {"job_id": job_id}).one_or_none()
    if row is None or project not in (None, row.project_id):
        raise RefusedError(404, "Job not found.")
    return job_of(row)


def find_jobs(reader: Connection, job_ids: Collection[str]) -> dict[str, Job]:
    """Return the jobs with these ids by their ids, as far as they are there."""
    return {row.id: job_of(row) for row in reader.execute(_JOBS_BY_ID, {"ids": id_list(job_ids)})} if job_ids else {}


def create_job(writer: Connection, project: str, settings: JobSettings, change: Change, *, enabled: bool) -> Job:
    """Make a job and return it. Raises `RefusedError` (409) if the project has a job with this slug."""
    created = Job(
        id=new_id(change.moment),
        project_id=project,
        enabled=enabled,
        version=1,
        version_id=new_version_id(),
        settings=settings,
        created_by=change.author,
        updated_by=change.author,
        created_at=change.moment,
        updated_at=change.moment,
        next_fire_at=next_firing(settings, change.moment) if enabled else None,
    )
    values = {name: getattr(created, name) for name in _COLUMNS}
    try:
        writer.execute(insert(job).values(slug=settings.slug, has_cron=bool(settings.cron), **values))
    except IntegrityError:
        raise _slug_is_taken(settings.slug) from None
    _insert_version(writer, created)
    return created


def update_job(writer: Connection, found: Job, settings: JobSettings, change: Change, *, enabled: bool) -> Job:
    """Give a job, whose row is locked, these settings as a new version, and return it. The same settings make none.

    Raises `RefusedError` (409) if another job of the project has the slug.
    """
    if settings.to_json() == found.settings.to_json() and enabled == found.enabled:
        return found
    updated = replace(
        found,
        enabled=enabled,
        version=found.version + 1,
        version_id=new_version_id(),
        settings=settings,
        updated_by=change.author,
        updated_at=change.moment,
    )
    if _schedule(updated) != _schedule(found):
        updated = replace(updated, next_fire_at=next_firing(settings, change.moment) if enabled else None)
        _count_missed(writer, found, change.moment)
    values = {name: getattr(updated, name) for name in _COLUMNS}
    try:
        values |= {"slug": settings.slug, "has_cron": bool(settings.cron)}
        writer.execute(update(job).where(job.c.id == found.id).values(values))
    except IntegrityError:
        raise _slug_is_taken(settings.slug) from None
    writer.execute(delete(job_tag).where(job_tag.c.job_id == found.id))
    writer.execute(delete(job_limit).where(job_limit.c.job_id == found.id))
    _insert_version(writer, updated)
    _forget_limits(writer, found)
    return updated


def switch_jobs(writer: Connection, ids: Sequence[str], project: str | None, change: Change, *, enabled: bool) -> int:
    """Enable or disable jobs, which makes no new version. Return how many of them there are."""
    _lock(writer, ids, Lock.EXCLUSIVE)
    rows = writer.execute(JOBS.where(job.c.id.in_(set(ids))))
    found = [job_of(row) for row in rows if project in (None, row.project_id)]
    for item in found:
        if item.enabled != enabled:
            firing = next_firing(item.settings, change.moment) if enabled else None
            values = {"enabled": enabled, "updated_by": change.author, "updated_at": change.moment}
            _count_missed(writer, item, change.moment)
            writer.execute(update(job).where(job.c.id == item.id).values(next_fire_at=firing, **values))
    return len(found)


def delete_job(writer: Connection, found: Job) -> None:
    """Delete a job, whose row is locked, with its runs and their webhooks.

    Raises `RefusedError` (409) while one of the runs has not ended.
    """
    of_job = run.c.job_id == found.id
    if (
        writer.scalar(select(run.c.id).where(of_job, run.c.status.in_([status.value for status in UNDER_WAY])).limit(1))
        is not None
    ):
        raise RefusedError(409, "The job has runs that have not ended: cancel them, or wait.")
    runs = select(run.c.id).where(of_job)
    writer.execute(delete(run_tag).where(run_tag.c.run_id.in_(runs)))
    writer.execute(delete(attempt).where(attempt.c.run_id.in_(runs)))
    writer.execute(delete(run_log).where(run_log.c.run_id.in_(runs)))
    deliveries = select(webhook_delivery.c.id).where(webhook_delivery.c.secret == found.id)
    writer.execute(delete(webhook_attempt).where(webhook_attempt.c.delivery.in_(deliveries)))
    writer.execute(delete(webhook_delivery).where(webhook_delivery.c.secret == found.id))
    writer.execute(delete(run).where(of_job))
    writer.execute(delete(batch).where(batch.c.job_id == found.id))
    is_of_job = (dependency.c.job_id == found.id) | (dependency.c.depends_on_job_id == found.id)
    writer.execute(delete(dependency).where(is_of_job))
    for of_job_alone in (job_tag, job_limit, job_version):
        writer.execute(delete(of_job_alone).where(of_job_alone.c.job_id == found.id))
    writer.execute(delete(job).where(job.c.id == found.id))
    _forget_limits(writer, found)


JOBS: Select[Any] = select(job, job_version.c.id.label("version_id"), job_version.c.settings).join(
    job_version, (job_version.c.job_id == job.c.id) & (job_version.c.version == job.c.version)
)
"""The query of jobs, each with its current version."""

# Each trigger does these: to make such a statement takes longer than to execute it.
_JOB_BY_ID = JOBS.where(job.c.id == bindparam("job_id"))
_JOBS_BY_ID = JOBS.where(job.c.id.in_(bindparam("ids", expanding=True)))
_IDS = select(job.c.id).where(job.c.id.in_(bindparam("ids", expanding=True))).order_by(job.c.id)
_LOCKS = {lock: _IDS.with_for_update(read=lock is Lock.SHARED) for lock in Lock}
_COLUMNS = (
    *("id", "project_id", "enabled", "version", "created_by", "updated_by", "created_at", "updated_at"),
    *("paused_at", "next_fire_at"),
)
"""Those of `job` that are fields of `Job`."""


def _lock(writer: Connection, ids: Sequence[str], lock: Lock) -> None:
    """Lock the rows of jobs. It is a statement of its own: one that waits for a lock while it joins a job with its
    version finds neither, if the job gets another version meanwhile."""
    writer.execute(_LOCKS[lock], {"ids": list(ids)}).all()


def job_of(row: Row[Any]) -> Job:
    """Return the job that a row of `JOBS` is."""
    fields = {name: getattr(row, name) for name in _COLUMNS}
    return Job(version_id=row.version_id, settings=settings_from(row.settings), **fields)


def _insert_version(writer: Connection, current: Job) -> None:
    """Add the current version of a job, and its tags and named limits, of which there are none."""
    values = {"job_id": current.id, "version": current.version, "id": current.version_id}
    stored = current.settings.to_json()
    writer.execute(insert(job_version).values(settings=stored, created_at=current.updated_at, **values))
    tags = [{"job_id": current.id, "key": key, "value": value} for key, value in current.settings.tags.items()]
    if tags:
        writer.execute(insert(job_tag), tags)
    limits = {tuple(limit.values()): limit for limit in current.settings.rate_limit_keys}
    if limits:
        of_job = {"job_id": current.id, "project_id": current.project_id}
        writer.execute(insert(job_limit), [{**of_job, **limit} for limit in limits.values()])


def _forget_limits(writer: Connection, former: Job) -> None:
    """Delete what was counted of the named limits of a job that no job names any more."""
    names = {limit["name"] for limit in former.settings.rate_limit_keys}
    if names:
        is_named = exists().where(
            job_limit.c.project_id == limited_start.c.project_id, job_limit.c.name == limited_start.c.name
        )
        where = (limited_start.c.project_id == former.project_id) & limited_start.c.name.in_(names)
        writer.execute(delete(limited_start).where(where, ~is_named))


def _schedule(of: Job) -> tuple[bool, str, str]:
    return of.enabled, of.settings.cron, of.settings.timezone


def _count_missed(writer: Connection, found: Job, now: int) -> None:
    """Count the firings that a change of the schedule drops: those that have come, and that no engine has made yet."""
    if found.next_fire_at is not None and found.next_fire_at <= now:
        values = counted_as_missed(due(found.settings, found.next_fire_at, now))
        writer.execute(update(job).where(job.c.id == found.id).values(values))


def _slug_is_taken(slug: str) -> RefusedError:
    return RefusedError(409, f"The project has a job with the slug {slug} already: choose another one.")
