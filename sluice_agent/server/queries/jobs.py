"""The list of jobs: filtered, sorted, and paged by cursors, which stay correct while jobs are added."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, select

from sluice_agent.server.queries.base import Total, bases_of, total_of
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.plan import find_keys
from sluice_agent.server.queries.selection import select_jobs
from sluice_agent.server.store.codes import FRAMEWORKS, JOB_STATES
from sluice_agent.server.store.schema import job
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none

_COLUMNS = [column for column in job.c if column.name not in ("fold", "root_id", "group_id", "attempt")]


@dataclass(frozen=True, slots=True)
class Page:
    """At most `limit` jobs of a list; the total, of which there are at least as many if it is not exact; and the cursor
    of the next page."""

    jobs: list[dict[str, Any]]
    total: int
    is_total_exact: bool
    next_cursor: str | None


def list_jobs(
    reader: Connection,
    connections: Mapping[str, int],
    wanted: JobFilter,
    order: Order,
    limit: int,
    cursor: str | None,
    *,
    now: int,
) -> Page:
    """Return a page of the jobs of `connections` (numbers by id) that `wanted` selects at a moment.

    Raises `RefusedError` (400) if `cursor` is not one of a list in this order.
    """
    after = None if cursor is None else order.decode(reader, cursor)
    selection = select_jobs(reader, connections, wanted, now)
    keys, total = find_keys(reader, selection, order, after, limit)
    rows = rows_of(reader, [key.number for key in keys[:limit]])
    has_next = len(keys) > limit
    next_cursor = order.encode(rows[-1]._mapping[order.column], keys[limit - 1]) if has_next else None
    return Page(summaries_of(reader, connections, rows), total.jobs, total.is_exact, next_cursor)


def count_jobs(reader: Connection, connections: Mapping[str, int], wanted: JobFilter, now: int) -> Total:
    """Return the number of jobs that `wanted` selects at a moment, as `list_jobs` does."""
    selection = select_jobs(reader, connections, wanted, now)
    if not selection.states:
        return Total(0, is_exact=True)
    return total_of(reader, selection, bases_of(reader, selection)[1])


def newer_cursor(
    reader: Connection,
    connections: Mapping[str, int],
    wanted: JobFilter,
    order: Order,
    limit: int,
    cursor: str,
    *,
    now: int,
) -> str | None:
    """Return the cursor of the page before that of `cursor`, of the same list; None if that is the first page.

    Raises `RefusedError` (400) as `list_jobs`.
    """
    first = order.decode(reader, cursor)  # the last job of that page, as cursors name the job before their page
    selection = select_jobs(reader, connections, wanted, now)
    mirrored = order.mirrored()
    is_known = first.value is not None
    found = find_keys(reader, selection, mirrored, first, limit).keys
    keys = [key for key in found if (key.value is not None) is is_known]
    if len(keys) < limit and not is_known:  # those with a value come before all without, in either direction
        keys += [key for key in find_keys(reader, selection, mirrored, None, limit).keys if key.value is not None]
    if len(keys) < limit:
        return None
    (row,) = rows_of(reader, [keys[limit - 1].number])
    return order.encode(row._mapping[order.column], keys[limit - 1])


def attempts_of(reader: Connection, ids: Sequence[str]) -> dict[str, int]:
    """Return the attempts of jobs by Sluice's ids."""
    query = select(job.c.uuid, job.c.attempt).where(job.c.uuid.in_([UUID(id_).bytes for id_ in ids]))
    return {str(UUID(bytes=row.uuid)): row.attempt for row in reader.execute(query)}


def rows_of(reader: Connection, numbers: Sequence[int]) -> list[Row[Any]]:
    """Return the rows of jobs, in the order of `numbers`."""
    rows = {row.number: row for row in reader.execute(_ROWS, {"numbers": numbers}).all()}
    return [rows[number] for number in numbers]


_ROWS = select(*_COLUMNS).where(job.c.number.in_(bindparam("numbers", expanding=True)))


def summaries_of(reader: Connection, connections: Mapping[str, int], rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """Return what a list shows of jobs."""
    ids = {number: id_ for id_, number in connections.items()}
    texts = texts_of(reader, (number for row in rows for number in (row.name, row.queue, row.worker)))
    return [
        {
            "id": str(UUID(bytes=row.uuid)),
            "externalId": row.external_id,
            "framework": FRAMEWORKS[row.framework].value,
            "connectionId": ids[row.connection],
            "name": texts[row.name],
            "queue": texts.get(row.queue),
            "state": JOB_STATES[row.state].value,
            "stateChangedAt": timestamp_of(row.changed_at),
            "createdAt": timestamp_of(row.created_at),
            "scheduledFor": timestamp_or_none(row.scheduled_for),
            "startedAt": timestamp_or_none(row.started_at),
            "completedAt": timestamp_or_none(row.completed_at),
            "durationMs": row.duration_ms,
            "workerId": texts.get(row.worker),
            "error": row.error,
        }
        for row in rows
    ]
