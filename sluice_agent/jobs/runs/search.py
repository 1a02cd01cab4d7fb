"""Runs as people look for them: by several jobs and states, a time, a batch, a class of errors, or a text.

A filter is split into parts, each of which one index serves in the order of lists. Parts have no run in common, so a
page is merged from theirs, and counts are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from sluice_agent.jobs.definitions.jobs import search_jobs
from sluice_agent.jobs.definitions.settings import JobSettings, settings_from
from sluice_agent.jobs.runs.runs import is_of_project
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.page import Page, PageRequest, Position, read_page
from sluice_agent.jobs.store.schema import attempt, is_not_completed, job, job_version, run

MOST_COUNTED = 10_000
"""Runs of each state that are counted; further ones are not read."""

MOST_JOBS = 20
"""Jobs whose name a text may match."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs of a project are wanted. Without `statuses` it is all; times are microseconds since 1970, the first
    one included. `text` is a part of a job's name or slug, or the whole id or idempotency key of a run. `ended_before`
    leaves out what has ended since, `ids` all others."""

    project: str
    job_id: str | None = None
    statuses: Sequence[Status] = ()
    created_from: int | None = None
    created_before: int | None = None
    batch_id: str | None = None
    error_class: str | None = None
    text: str | None = None
    ended_before: int | None = None
    ids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """A number of runs; there are at least as many if it is not exact."""

    runs: int
    is_exact: bool


def search_runs(reader: Connection, wanted: RunFilter, page: PageRequest) -> Page[Row[Any]]:
    """Return a page of the runs that are wanted, the newest first. The rows are those of lists: without payload and
    result."""
    rows: list[Row[Any]] = []
    one_more = replace(page, limit=page.limit + 1)
    for conditions in _parts(reader, wanted):
        query = select(*_OF_LISTS).where(*conditions)
        rows += read_page(reader, query, (run.c.created_at, run.c.id), one_more, lambda row: row).items
    rows.sort(key=lambda row: (row.created_at, row.id), reverse=True)
    shown = rows[: page.limit]
    after = Position(shown[-1].created_at, shown[-1].id) if len(rows) > len(shown) else None
    return Page(shown, after)


def newer_position(reader: Connection, wanted: RunFilter, page: PageRequest) -> Position | None:
    """Return the position after which the page before `page` begins; None if that is the first one."""
    if page.after is None:
        return None
    rows: list[Row[Any]] = []
    for conditions in _parts(reader, wanted):
        query = select(run.c.created_at, run.c.id).where(*conditions, run.c.created_at >= page.after.value)
        rows += reader.execute(query.order_by(run.c.created_at, run.c.id).limit(page.limit + 2)).all()
    newer = sorted((row.created_at, row.id) for row in rows if (row.created_at, row.id) > tuple(page.after))
    return Position(*newer[page.limit - 1]) if len(newer) >= page.limit else None


def count_runs(reader: Connection, wanted: RunFilter) -> Count:
    """Return how many runs are wanted."""
    total = 0
    for conditions in _parts(reader, wanted):
        first = select(run.c.id).where(*conditions).limit(MOST_COUNTED + 1 - total).subquery()
        total += reader.scalar(select(func.count()).select_from(first)) or 0
        if total > MOST_COUNTED:
            return Count(MOST_COUNTED, is_exact=False)
    return Count(total, is_exact=True)


def count_all(reader: Connection, wanted: RunFilter) -> int:
    """Return how many runs are wanted, however long it takes."""
    parts = _parts(reader, wanted)
    return sum(reader.scalar(select(func.count()).select_from(run).where(*conditions)) or 0 for conditions in parts)


def counts_by_status(reader: Connection, wanted: RunFilter) -> dict[Status, Count]:
    """Return how many runs there are in each state, whichever states are wanted."""
    totals = dict.fromkeys(Status, 0)
    is_of_jobs = wanted.job_id is not None or wanted.text is not None
    for conditions in _parts(reader, replace(wanted, statuses=()), is_counted=True):
        if is_not_completed in conditions[1:2]:
            left = MOST_COUNTED * len(Status) + 1
        else:  # those of jobs that are completed are read row by row: once there are many, no further ones
            left = max(0, MOST_COUNTED + 1 - (totals[Status.COMPLETED] if is_of_jobs else 0))
        first = select(run.c.status).where(*conditions).limit(left).subquery()
        for text, count in reader.execute(select(first.c.status, func.count()).group_by(first.c.status)):
            totals[Status(text)] += count
    return {status: Count(min(total, MOST_COUNTED), total <= MOST_COUNTED) for status, total in totals.items()}


def settings_of(reader: Connection, ids: Sequence[str]) -> dict[str, JobSettings]:
    """Return the settings that jobs have now, by id."""
    current = (job_version.c.job_id == job.c.id) & (job_version.c.version == job.c.version)
    query = select(job.c.id, job_version.c.settings).join(job_version, current).where(job.c.id.in_(set(ids)))
    return {row.id: settings_from(row.settings) for row in reader.execute(query)}


def attempts_of(reader: Connection, run_id: str) -> list[Row[Any]]:
    """Return the attempts of a run, the first one first, also those before a replay."""
    query = select(attempt).where(attempt.c.run_id == run_id).order_by(attempt.c.retries)
    return list(reader.execute(query))


def latest_runs(reader: Connection, job_ids: Sequence[str]) -> dict[str, Row[Any]]:
    """Return the newest run of each job that has one."""
    latest = {}
    for job_id in job_ids:
        query = select(*_OF_LISTS).where(run.c.job_id == job_id)
        row = reader.execute(query.order_by(run.c.created_at.desc(), run.c.id.desc()).limit(1)).one_or_none()
        if row is not None:
            latest[job_id] = row
    return latest


def children_of(reader: Connection, row: Row[Any], limit: int) -> list[Row[Any]]:
    """Return runs that `row` has started itself, ."""
    query = select(run).where(run.c.parent_run_id == row.id).order_by(run.c.id.desc()).limit(limit)
    return list(reader.execute(query))


_LARGE = ("payload", "result", "execution_trace", "metadata")
_OF_LISTS = tuple(column for column in run.c if column.name not in _LARGE)


def _parts(reader: Connection, wanted: RunFilter, *, is_counted: bool = False) -> Iterator[list[Any]]:
    """Yield the conditions of each part. `is_counted`: only states are read, which an index has."""
    if not is_of_project(reader, wanted.project, wanted.job_id, wanted.batch_id):
        return
    common = list(_common(wanted))
    if wanted.ids:
        common.insert(0, run.c.id.in_(_ids_of_project(reader, wanted)))
    in_states = [run.c.status.in_([status.value for status in wanted.statuses])] if wanted.statuses else []
    of_job = [] if wanted.job_id is None else [run.c.job_id == wanted.job_id]
    jobs: Sequence[str] | None = None if wanted.job_id is None else [wanted.job_id]
    if wanted.text is not None:
        ids = _runs_named(reader, wanted)
        if ids:
            of_batch = [] if wanted.batch_id is None else [run.c.batch_id == wanted.batch_id]
            yield [run.c.id.in_(ids), *of_job, *of_batch, *in_states, *common]
            return
        named = _jobs_named(reader, wanted)
        jobs = named if jobs is None else [id_ for id_ in jobs if id_ in named]
    if wanted.batch_id is not None or wanted.ids:
        of_batch = [] if wanted.batch_id is None else [run.c.batch_id == wanted.batch_id]
        in_jobs = [] if jobs is None else [run.c.job_id.in_(jobs)]
        yield [*of_batch, *in_jobs, *in_states, *common]
        return
    beginnings = [run.c.project_id == wanted.project] if jobs is None else [run.c.job_id == id_ for id_ in jobs]
    for beginning in beginnings:
        for in_state in _states(wanted, of_job=jobs is not None, is_counted=is_counted):
            yield [beginning, *in_state, *common]


def _states(wanted: RunFilter, *, of_job: bool, is_counted: bool) -> Iterator[list[Any]]:
    """Yield the conditions of the states that are wanted, each of which an index serves."""
    has_error = wanted.error_class is not None  # no run that has succeeded has one, and most have succeeded
    if not wanted.statuses and of_job and (is_counted or has_error):
        yield [is_not_completed]
        statuses = [Status.COMPLETED]
    elif not wanted.statuses and not (is_counted or has_error):
        yield []
        return
    else:
        statuses = list(dict.fromkeys(wanted.statuses)) or list(Status)
    for status in statuses:
        if status is not Status.COMPLETED:
            yield [run.c.status == status.value, *([is_not_completed] if of_job else [])]
        elif not has_error:
            yield [run.c.status == status.value]


def _common(wanted: RunFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.created_from is not None:
        yield run.c.created_at >= wanted.created_from
    if wanted.created_before is not None:
        yield run.c.created_at < wanted.created_before
    if wanted.error_class is not None:
        yield run.c.error_class == wanted.error_class
    if wanted.ended_before is not None:
        yield run.c.finished_at < wanted.ended_before


def _ids_of_project(reader: Connection, wanted: RunFilter) -> list[str]:
    found = reader.execute(select(run.c.id, run.c.project_id).where(run.c.id.in_(wanted.ids)))
    return [row.id for row in found if row.project_id == wanted.project]


def _runs_named(reader: Connection, wanted: RunFilter) -> list[str]:
    """Return the runs with this id or idempotency key."""
    jobs = select(job.c.id).where(job.c.project_id == wanted.project)
    by_key = select(run.c.id).where(run.c.job_id.in_(jobs), run.c.idempotency_key == wanted.text).limit(MOST_JOBS)
    by_id = select(run.c.id).where(run.c.id == wanted.text, run.c.project_id == wanted.project)
    return [*reader.scalars(by_id), *reader.scalars(by_key)]


def _jobs_named(reader: Connection, wanted: RunFilter) -> list[str]:
    """Return the newest jobs with the text in their slug or name."""
    found = search_jobs(reader, wanted.project, PageRequest(MOST_JOBS), wanted.text or "")
    return [of.id for of in found.items]
