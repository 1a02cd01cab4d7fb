"""What time does to runs: those that are due begin, others expire, and an attempt without a sign of life is lost.

Each function changes a limited number of runs in the transaction of its connection, and returns how many these were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, or_, select, update

from sluice_agent.jobs.attempts.retries import RetryStrategy, retry_delay
from sluice_agent.jobs.definitions.jobs import find_job
from sluice_agent.jobs.definitions.versions import version_to_start
from sluice_agent.jobs.execution.start import settings_under_way
from sluice_agent.jobs.runs.changes import change, dependent_of
from sluice_agent.jobs.runs.dependencies import are_met
from sluice_agent.jobs.runs.transitions import Due, Expired, Faulted, Lost, Met
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import can_expire, is_claimed, is_delayed, is_held, is_waiting, run

MOST = 200
"""Runs that one transaction changes: others write as well."""

_SECOND = 1_000_000  # microseconds
_UNREPORTED = (
    "the attempt had to end long ago, and its worker could not report how: is there a proxy before this server, or is "
    "the worker of another version?"
)


def begin_due(writer: Connection, now: int) -> int:
    """Let delayed runs begin whose time has come."""
    return sum(
        change(writer, row, Due(are_met(writer, dependent_of(row))), now) is not None
        for row in _rows(writer, _DUE, now)
    )


def end_holds(writer: Connection, now: int) -> int:
    """Let queued runs be claimed that waited for their next attempt, or for an endpoint."""
    return writer.execute(_END_HOLDS, {"now": now, "most": MOST}).rowcount


def expire(writer: Connection, now: int) -> int:
    """End the runs whose time to start is over."""
    return sum(change(writer, row, Expired(), now) is not None for row in _rows(writer, _EXPIRED, now))


def look_at_waiting(writer: Connection, after: str, now: int) -> str:
    """Look again at runs that wait for others, from the id `after` on, and return where to go on: "" at the end.

    A run that began to wait while the other one ended is found here only.
    """
    rows = writer.execute(_WAITING, {"after": after, "most": MOST}).all()
    for row in rows:
        if are_met(writer, dependent_of(row)):
            change(writer, row, Met(), now)
    return str(rows[-1].id) if len(rows) == MOST else ""


def lose(writer: Connection, silent_since: int, now: int, chance: Callable[[], float]) -> int:
    """Count requests as lost without a sign of life since then: the next attempt follows, if there is one.

    `chance` returns a random number from 0 to 1.
    """
    rows = writer.execute(_SILENT, {"since": silent_since, "most": MOST}).all()
    return sum(_lose(writer, row, now, chance) for row in rows)


def end_overdue(writer: Connection, deadline: int, now: int) -> int:
    """End runs whose attempt had to be over by `deadline`, though its worker is alive: it can't report the outcome. The
    endpoint may have answered, so no attempt follows."""
    timeouts: dict[tuple[str, int], int] = {}
    overdue = []
    for row in writer.execute(_BEGUN, {"before": deadline}):
        version = row.job_id, row.job_version
        if version not in timeouts:
            settings = settings_under_way(writer, row)
            timeouts[version] = 0 if settings is None else settings.timeout_secs * _SECOND
        if row.started_at + timeouts[version] <= deadline:
            overdue.append(row)
    for row in overdue[:MOST]:
        change(writer, row, Faulted(_UNREPORTED), now)
    return len(overdue[:MOST])


def _lose(writer: Connection, row: Row[Any], now: int, chance: Callable[[], float]) -> bool:
    settings = version_to_start(writer, find_job(writer, row.job_id, None), row.job_version).settings
    strategy = RetryStrategy(settings.retry_strategy or RetryStrategy.EXPONENTIAL)
    delay = retry_delay(strategy, row.attempt, settings.retry_delays_secs, 0, chance)
    return change(writer, row, Lost(now + round(delay * _SECOND)), now, settings.max_attempts) is not None


def _rows(writer: Connection, query: Select[Any], now: int) -> list[Row[Any]]:
    """Return runs, in the order in which each transaction locks them, but those that another one is changing."""
    ids = writer.scalars(query, {"now": now, "most": MOST}).all()
    return list(writer.execute(_BY_ID, {"ids": list(ids)}))


_MOST = bindparam("most", type_=run.c.attempt.type)
_NOW = bindparam("now", type_=run.c.available_at.type)
_DUE = select(run.c.id).where(is_delayed, run.c.available_at <= _NOW).order_by(run.c.available_at).limit(_MOST)
_HELD = select(run.c.id).where(is_held, run.c.available_at <= _NOW).order_by(run.c.available_at).limit(_MOST)
_EXPIRED = select(run.c.id).where(can_expire, run.c.expires_at <= _NOW).order_by(run.c.expires_at).limit(_MOST)
HAS_DUE = or_(*(query.exists() for query in (_DUE, _HELD, _EXPIRED)))
"""The condition under which one of the functions that need only the time changes a run."""

_WAITING = select(run).where(is_waiting, run.c.id > bindparam("after")).order_by(run.c.id).limit(_MOST)
_SILENT = (
    select(run)
    .where(
        is_claimed,
        run.c.status == Status.EXECUTING.value,
        run.c.task_id.is_(None),
        run.c.heartbeat_at < bindparam("since"),
    )
    .order_by(run.c.id)
    .limit(_MOST)
    .with_for_update(skip_locked=True)
)
_BEGUN = (
    select(
        *(run.c[name] for name in ("id", "job_id", "job_version", "task_id", "status", "attempt", "retries")),
        run.c.started_at,
        run.c.first_started_at,
    )
    .where(
        is_claimed,
        run.c.status == Status.EXECUTING.value,
        run.c.task_id.is_(None),
        run.c.started_at <= bindparam("before"),
    )
    .order_by(run.c.id)
    .with_for_update(skip_locked=True)
)
_BY_ID = (
    select(run)
    .where(run.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(run.c.id)
    .with_for_update(skip_locked=True)
)
_END_HOLDS = (
    update(run)
    .where(run.c.id.in_(_HELD.with_for_update(skip_locked=True)), run.c.status == Status.QUEUED.value)
    .values(is_ready=True, next_retry_at=None)
)
