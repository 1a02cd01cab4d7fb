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
from sluice_agent.jobs.store.schema import attempt, job, job_version, run

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
    parts = list(_parts(reader, wanted))
    if len(parts) == 1:
        return read_page(reader, select(*_OF_LISTS).where(*parts[0]), _ORDER, page, lambda row: row)
    found: list[Position] = []
    one_more = replace(page, limit=page.limit + 1)
    for conditions in parts:  # most of what they have is on no page: of that only the order is read
        found += read_page(reader, select(*_ORDER).where(*conditions), _ORDER, one_more, _position_of).items
    found.sort(reverse=True)
    shown = found[: page.limit]
    query = select(*_OF_LISTS).where(run.c.id.in_([position.id for position in shown]))
    rows = {row.id: row for row in reader.execute(query)} if shown else {}
    return Page([rows[position.id] for position in shown], shown[-1] if len(found) > len(shown) else None)


def newer_position(reader: Connection, wanted: RunFilter, page: PageRequest) -> Position | None:
    """Return the position after which the page before `page` begins; None if that is the first one."""
    if page.after is None:
        return None
    rows: list[Row[Any]] = []
    for conditions in _parts(reader, wanted):
        query = select(*_ORDER).where(*conditions, run.c.created_at >= page.after.value)
        rows += reader.execute(query.order_by(run.c.created_at, run.c.id).limit(page.limit + 2)).all()
    newer = sorted((row.created_at, row.id) for row in rows if (row.created_at, row.id) > tuple(page.after))
    return Position(*newer[page.limit - 1]) if len(newer) >= page.limit else None


def count_runs(reader: Connection, wanted: RunFilter) -> Count:
    """Return how many runs are wanted."""
    total = 0
    for _, count in _counts(reader, wanted, MOST_COUNTED + 1):
        total += count
        if total > MOST_COUNTED:
            return Count(MOST_COUNTED, is_exact=False)
    return Count(total, is_exact=True)


def count_all(reader: Connection, wanted: RunFilter) -> int:
    """Return how many runs are wanted, however long it takes."""
    return sum(count for _, count in _counts(reader, wanted))


def counts_by_status(reader: Connection, wanted: RunFilter) -> dict[Status, Count]:
    """Return how many runs there are in each state, whichever states are wanted."""
    totals = dict.fromkeys(Status, 0) | dict(_counts(reader, replace(wanted, statuses=()), MOST_COUNTED + 1))
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
_ORDER = (run.c.created_at, run.c.id)


def _position_of(row: Row[Any]) -> Position:
    return Position(row.created_at, row.id)


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the runs of a filter are: in a project, or in these jobs, or `is_small`: among a few that are named."""

    conditions: Sequence[ColumnElement[bool]]
    jobs: Sequence[str] | None = None
    is_small: bool = False


def _source(reader: Connection, wanted: RunFilter) -> _Source | None:
    """Return where to look; None: there is none of what the filter names."""
    if not is_of_project(reader, wanted.project, wanted.job_id, wanted.batch_id):
        return None
    of_job = [] if wanted.job_id is None else [run.c.job_id == wanted.job_id]
    named = [] if wanted.batch_id is None else [run.c.batch_id == wanted.batch_id]
    if wanted.ids:
        named.append(run.c.id.in_(_ids_of_project(reader, wanted)))
    jobs: Sequence[str] | None = None if wanted.job_id is None else [wanted.job_id]
    if wanted.text is not None:
        ids = _runs_named(reader, wanted)
        if ids:
            return _Source([run.c.id.in_(ids), *of_job, *named], is_small=True)
        with_text = _jobs_named(reader, wanted)
        jobs = with_text if jobs is None else [id_ for id_ in jobs if id_ in with_text]
    if named:
        return _Source([*named, *([] if jobs is None else [run.c.job_id.in_(jobs)])], is_small=True)
    return _Source([run.c.project_id == wanted.project]) if jobs is None else _Source([], jobs)


def _parts(reader: Connection, wanted: RunFilter) -> Iterator[list[Any]]:
    """Yield the conditions of each part, in the order of lists."""
    source = _source(reader, wanted)
    if source is None:
        return
    beginnings = [source.conditions] if source.jobs is None else [[run.c.job_id == id_] for id_ in source.jobs]
    common = list(_common(wanted))
    statuses = _statuses(wanted)
    if not wanted.statuses and wanted.error_class is None:
        states: list[list[ColumnElement[bool]]] = [[]]
    elif source.is_small:
        states = [[_in(statuses)]]
    else:
        states = [[run.c.status == status.value] for status in statuses]
    for beginning in beginnings:
        for in_state in states:
            yield [*beginning, *in_state, *common]


def _counts(reader: Connection, wanted: RunFilter, most: int | None = None) -> Iterator[tuple[Status, int]]:
    """Yield how many runs are wanted in each state that has any, at most `most` of each."""
    source = _source(reader, wanted)
    if source is None:
        return
    conditions = [*source.conditions, *_common(wanted)]
    statuses = _statuses(wanted)
    if source.is_small:
        query = select(run.c.status, func.count()).where(*conditions, _in(statuses)).group_by(run.c.status)
        yield from ((Status(status), count) for status, count in reader.execute(query))
        return
    if source.jobs is not None:
        conditions.append(run.c.job_id.in_(source.jobs))
    for status in statuses:
        first = select(run.c.id).where(*conditions, run.c.status == status.value).limit(most).subquery()
        yield status, reader.scalar(select(func.count()).select_from(first)) or 0


def _statuses(wanted: RunFilter) -> list[Status]:
    """Return the states in which runs may be wanted: none that has succeeded has an error."""
    statuses = dict.fromkeys(wanted.statuses or Status)
    return [status for status in statuses if wanted.error_class is None or status is not Status.COMPLETED]


def _in(statuses: Sequence[Status]) -> ColumnElement[bool]:
    return run.c.status.in_([status.value for status in statuses])


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
