"""The attempts of a run, and what its endpoint has logged."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, select

from sluice_agent.jobs.definitions.views import time_text
from sluice_agent.jobs.json_text import Raw
from sluice_agent.jobs.store.page import Page, PageRequest, read_page
from sluice_agent.jobs.store.schema import attempt, run_log


def list_attempts(reader: Connection, run_id: str, wanted: PageRequest) -> Page[Row[Any]]:
    """Return a page of a run's attempts, also of those before a replay, the last one first."""
    query = select(attempt).where(attempt.c.run_id == run_id)
    return read_page(reader, query, (attempt.c.retries, attempt.c.run_id), wanted, lambda row: row)


def list_log(reader: Connection, run_id: str, wanted: PageRequest) -> Page[Row[Any]]:
    """Return a page of what a run's endpoint has logged, the last line first."""
    query = select(run_log).where(run_log.c.run_id == run_id)
    return read_page(reader, query, (run_log.c.number, run_log.c.run_id), wanted, lambda row: row)


def attempt_view(row: Row[Any]) -> dict[str, Any]:
    """Return an attempt as it is shown. `number` counts those of all replays."""
    optional = {name: getattr(row, name) for name in ("status_code", "error_class", "error") if getattr(row, name)}
    return {
        "number": row.retries + 1,
        "attempt": row.attempt,
        "started_at": time_text(row.started_at),
        **({} if row.finished_at is None else {"finished_at": time_text(row.finished_at)}),
        **optional,
        **({} if row.trace is None else {"trace": Raw(row.trace)}),
    }


def log_view(row: Row[Any]) -> dict[str, Any]:
    """Return a line of a log as it is shown."""
    return {
        "number": row.number,
        "attempt": row.attempt,
        "at": time_text(row.at),
        "level": row.level,
        "message": row.message,
        **({} if row.data is None else {"data": Raw(row.data)}),
    }
