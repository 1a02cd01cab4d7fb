"""Which jobs, in which order, from where: the list of jobs by keyset, so that a page stays right while jobs come in."""

from __future__ import annotations

import base64
import json
import sqlite3
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sluice_agent.server.errors import RefusedError

_INTEGERS = range(-(2**63), 2**63)  # what a column of SQLite holds
_MALFORMED = [{"field": "cursor", "message": "not a nextCursor of a list with this sortBy and sortOrder"}]


class SortBy(str, Enum):
    """By what a list of jobs can be sorted. What is unknown of a job comes before everything that is known."""

    CREATED_AT = "createdAt"
    STATE_CHANGED_AT = "stateChangedAt"
    STARTED_AT = "startedAt"
    COMPLETED_AT = "completedAt"
    DURATION_MS = "durationMs"
    NAME = "name"
    QUEUE = "queue"
    STATE = "state"


class SortOrder(str, Enum):
    """Up or down."""

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
    """Summaries of at most `limit` jobs, how many there are in all, and where the next page begins."""

    jobs: list[dict[str, Any]]
    total: int
    next_cursor: str | None


def page(
    reader: sqlite3.Connection,
    *,
    filters: dict[str, str | None],
    search: str | None,
    sort_by: SortBy,
    sort_order: SortOrder,
    limit: int,
    cursor: str | None,
) -> Page:
    """The jobs whose columns equal `filters` and whose name, external id or error contains `search` in any case.

    Raises `RefusedError` (400) if `cursor` is not one of a list that was sorted in the same way.
    """
    wanted = {column: value for column, value in filters.items() if value is not None}
    conditions = [f"{column} = ?" for column in wanted]
    values: list[str | int] = list(wanted.values())
    if search:
        escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        conditions.append("(" + " OR ".join(f"{c} LIKE ? ESCAPE '\\'" for c in ("name", "external_id", "error")) + ")")
        values += [f"%{escaped}%"] * 3
    where = " AND ".join(conditions) or "1"
    (total,) = reader.execute(f"SELECT count(*) FROM jobs WHERE {where}", values).fetchone()  # noqa: S608 (own words)
    column = _COLUMNS[sort_by]
    if cursor is not None:
        where += f" AND ({column}, id) {'>' if sort_order is SortOrder.ASC else '<'} (?, ?)"
        values += _position(cursor, sort_by, sort_order)
    order = sort_order.value
    rows = reader.execute(
        f"SELECT summary, {column}, id FROM jobs WHERE {where} ORDER BY {column} {order}, id {order} LIMIT ?",  # noqa: S608 (own words)
        (*values, limit + 1),
    ).fetchall()
    more = len(rows) > limit
    next_cursor = _cursor(sort_by, sort_order, *rows[limit - 1][1:]) if more else None
    return Page([json.loads(summary) for summary, *_ in rows[:limit]], total, next_cursor)


def _cursor(sort_by: SortBy, sort_order: SortOrder, value: str | int, job: str) -> str:
    position = json.dumps([sort_by.value, sort_order.value, value, job])
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _position(cursor: str, sort_by: SortBy, sort_order: SortOrder) -> tuple[str | int, str]:
    number = sort_by is SortBy.DURATION_MS
    try:
        match json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))):
            case [by, order, (str() | int()) as value, str(job)] if (
                by == sort_by.value
                and order == sort_order.value
                and isinstance(value, int) is number
                and (not number or value in _INTEGERS)
            ):
                f"{value}{job}".encode()  # SQLite takes no lone surrogate either
                return value, job
    except (ValueError, RecursionError):
        pass
    raise RefusedError(400, "The cursor is not one of this list.", _MALFORMED)
