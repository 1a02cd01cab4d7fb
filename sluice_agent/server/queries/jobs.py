"""Filter, sort and page the list of jobs, by keyset: pages stay correct while jobs are added."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import Connection

from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.summaries import JOBS, summary_of_row

_INTEGERS = range(-(2**63), 2**63)  # the range of an integer column in SQLite
_CURSOR_DETAILS = {"cursor": "not a nextCursor of a list with this sortBy and sortOrder"}


class SortBy(str, Enum):
    """Fields by which a list of jobs can be sorted. An unknown value comes before every known one."""

    CREATED_AT = "createdAt"
    STATE_CHANGED_AT = "stateChangedAt"
    STARTED_AT = "startedAt"
    COMPLETED_AT = "completedAt"
    DURATION_MS = "durationMs"
    NAME = "name"
    QUEUE = "queue"
    STATE = "state"


class SortOrder(str, Enum):
    """Ascending or descending."""

    ASC = "asc"
    DESC = "desc"


_COLUMNS = {
    SortBy.CREATED_AT: "created_at",
    SortBy.STATE_CHANGED_AT: "changed_at",
    SortBy.STARTED_AT: "started_at",
    SortBy.COMPLETED_AT: "completed_at",
    SortBy.DURATION_MS: "duration_ms",
    SortBy.NAME: "name",
    SortBy.QUEUE: "queue",
    SortBy.STATE: "state",
}


@dataclass(frozen=True, slots=True)
class Page:
    """Summaries of at most `limit` jobs, the total number, and the cursor of the next page."""

    jobs: list[dict[str, Any]]
    total: int
    next_cursor: str | None


def list_jobs(
    reader: Connection,
    *,
    filters: dict[str, str | None],
    search: str | None,
    sort_by: SortBy,
    sort_order: SortOrder,
    limit: int,
    cursor: str | None,
) -> Page:
    """Return the jobs whose columns equal `filters` and whose name, external id or error contains `search` in any case.

    Raises `RefusedError` (400) if `cursor` is not one of a list that was sorted in the same way.
    """
    active_filters = {column: value for column, value in filters.items() if value is not None}
    conditions = [f"{column} = ?" for column in active_filters]
    values: list[str | int] = list(active_filters.values())
    if search:
        escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append("(" + " OR ".join(f"{c} LIKE ? ESCAPE '\\'" for c in ("name", "external_id", "error")) + ")")
        values += [f"%{escaped}%"] * 3
    where = " AND ".join(conditions) or "1"
    total = reader.exec_driver_sql(f"{JOBS} SELECT count(*) FROM jobs WHERE {where}", tuple(values)).scalar() or 0  # noqa: S608 (no user input)
    column = _COLUMNS[sort_by]
    if cursor is not None:
        where += f" AND ({column}, id) {'>' if sort_order is SortOrder.ASC else '<'} (?, ?)"
        values += _parse_cursor(cursor, sort_by, sort_order)
    order = sort_order.value
    rows = reader.exec_driver_sql(
        f"{JOBS} SELECT jobs.*, {column}, id FROM jobs WHERE {where} ORDER BY {column} {order}, id {order} LIMIT ?",  # noqa: S608 (no user input)
        (*values, limit + 1),
    ).all()
    has_next = len(rows) > limit
    next_cursor = _make_cursor(sort_by, sort_order, *rows[limit - 1][-2:]) if has_next else None
    return Page([summary_of_row(row) for row in rows[:limit]], total, next_cursor)


def _make_cursor(sort_by: SortBy, sort_order: SortOrder, value: str | int, job: str) -> str:
    position = json.dumps([sort_by.value, sort_order.value, value, job])
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _parse_cursor(cursor: str, sort_by: SortBy, sort_order: SortOrder) -> tuple[str | int, str]:
    is_number = sort_by not in (SortBy.NAME, SortBy.QUEUE, SortBy.STATE)
    try:
        match json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))):
            case [by, order, (str() | int()) as value, str(job)] if (
                by == sort_by.value
                and order == sort_order.value
                and isinstance(value, int) is is_number
                and (not is_number or value in _INTEGERS)
            ):
                f"{value}{job}".encode()  # raises for a lone surrogate, which SQLite refuses too
                return value, job
    except (ValueError, RecursionError):
        pass
    raise RefusedError(400, "The cursor does not belong to this list.", _CURSOR_DETAILS)
