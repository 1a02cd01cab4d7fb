"""What lists of runs show: their rows, filters and pages. `runs.py` and `dead_letters.py` are such lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from sluice_agent.jobs.attempts.answers import ErrorClass
from sluice_agent.jobs.definitions.jobs import list_jobs
from sluice_agent.jobs.routes.pages import cursor_of, position_of
from sluice_agent.jobs.runs.search import (
    Count,
    RunFilter,
    count_runs,
    counts_by_status,
    newer_position,
    search_runs,
    settings_of,
)
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.server.pages import formats
from sluice_agent.server.pages.jobs import ActiveFilter, Choice
from sluice_agent.server.pages.jobs_api.parameters import RunsAddress
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none

LIMIT = 50
"""Runs on a page."""

_SUGGESTED = 100  # jobs that the filter offers
_MINUTE = 60_000_000  # microseconds
_PERIODS = (("15 minutes", 15), ("hour", 60), ("24 hours", 1_440), ("7 days", 10_080))
_LABELS = {
    "job_id": "Job",
    "batch_id": "Batch",
    "error_class": "Error class",
    "search": "Search",
    "from": "Created from",
    "to": "Created before",
}
_FIELDS = {
    "job_id": "job_id",
    "batch_id": "batch_id",
    "error_class": "error_class",
    "search": "text",
    "from": "created_from",
    "to": "created_before",
}


class RunRow(NamedTuple):
    """A run in a list. Durations are milliseconds; `is_running` if `ran` grows still."""

    id: str
    job_id: str
    name: str
    status: str
    attempt: int
    triggered_by: str
    created_at: str
    ended_at: str | None
    waited: int | None
    ran: int | None
    is_running: bool
    error: str | None
    due_at: str | None


@dataclass(frozen=True, slots=True)
class RunsView:
    """A list of runs: what is shown, how it is filtered, and where its other pages are."""

    path: str
    wanted: RunFilter
    count: str
    has_runs: bool
    is_filtered: bool
    rows: Sequence[RunRow]
    states: Sequence[Choice]
    periods: Sequence[Choice]
    active: Sequence[ActiveFilter]
    jobs: Sequence[tuple[str, str]]
    """Ids and names of jobs to choose from."""
    error_classes: Sequence[str]
    hidden: Sequence[tuple[str, str]]
    range: str
    first: str | None
    newer: str | None
    older: str | None
    without_filters: str


def runs_view(reader: Connection, address: RunsAddress, cursor: str | None, now: int) -> RunsView:
    """Return the list at `address`, after `cursor`. Raises `RefusedError` (400) if that is none."""
    page = PageRequest(LIMIT, position_of(cursor) if cursor else None)
    wanted = address.wanted
    found = search_runs(reader, wanted, page)
    newer = newer_position(reader, wanted, page)
    counts = counts_by_status(reader, wanted) if address.path == "/runs" else {}
    total = _sum(counts, wanted) if counts else count_runs(reader, wanted)
    rows = rows_of(reader, found.items, now)
    has_runs = bool(rows) or address.is_filtered or cursor is not None
    return RunsView(
        path=address.path,
        wanted=wanted,
        count=count_text(total),
        has_runs=has_runs,
        is_filtered=address.is_filtered,
        rows=rows,
        states=[_state_choice(address, status, count) for status, count in counts.items()],
        periods=list(_periods(address, now)),
        active=list(_active(reader, address)),
        jobs=_jobs(reader, wanted.project),
        error_classes=[error_class.value for error_class in ErrorClass],
        hidden=address.parameters(),
        range=f"{formats.number(len(rows))} of {count_text(total)}",
        first=address.href() if cursor else None,
        newer=address.href(cursor=cursor_of(newer)) if newer else None,
        older=address.href(cursor=cursor_of(found.next)) if found.next else None,
        without_filters=address.without_filters().href(),
    )


def rows_of(reader: Connection, runs: Sequence[Row[Any]], now: int) -> list[RunRow]:
    """Return what a list shows of runs."""
    settings = settings_of(reader, [row.job_id for row in runs])
    return [_row(row, settings[row.job_id].name if row.job_id in settings else row.job_id, now) for row in runs]


def count_text(count: Count) -> str:
    """Return a number of runs, with a plus if there may be more."""
    return formats.number(count.runs) if count.is_exact else f"{formats.number(count.runs)}+"


def durations_of(row: Row[Any], now: int) -> tuple[int | None, int | None]:
    """Return for how many milliseconds a run has waited for its attempt, and for how long that has run."""
    is_under_way = row.status == Status.EXECUTING.value
    if row.started_at is None:
        waits = row.status in (Status.QUEUED.value, Status.DEQUEUED.value, Status.WAITING.value)
        return ((now - row.created_at) // 1_000 if waits else None), None
    end = now if is_under_way else row.finished_at
    ran = None if end is None else max(0, end - row.started_at) // 1_000
    return max(0, row.started_at - row.created_at) // 1_000, ran


def _row(row: Row[Any], name: str, now: int) -> RunRow:
    waited, ran = durations_of(row, now)
    due = row.scheduled_at if row.status == Status.DELAYED.value else row.next_retry_at
    is_open = row.finished_at is None
    return RunRow(
        id=row.id,
        job_id=row.job_id,
        name=name,
        status=row.status,
        attempt=row.attempt,
        triggered_by=row.triggered_by,
        created_at=timestamp_of(row.created_at),
        ended_at=timestamp_or_none(row.finished_at),
        waited=waited,
        ran=ran,
        is_running=row.status == Status.EXECUTING.value,
        error=row.error,
        due_at=timestamp_or_none(due) if is_open else None,
    )


def _sum(counts: dict[Status, Count], wanted: RunFilter) -> Count:
    chosen = [counts[status] for status in wanted.statuses or counts]
    return Count(sum(count.runs for count in chosen), all(count.is_exact for count in chosen))


def _state_choice(address: RunsAddress, status: Status, count: Count) -> Choice:
    selected = address.wanted.statuses
    others = tuple(other for other in selected if other is not status)
    statuses = others if status in selected else (*selected, status)
    href = address.with_filter(statuses=statuses).href()
    return Choice(status.value, href, status in selected, count.runs if count.is_exact else -1)


def _periods(address: RunsAddress, now: int) -> Iterator[Choice]:
    wanted = address.wanted
    is_any = wanted.created_from is None and wanted.created_before is None
    yield Choice("Any time", address.with_filter(created_from=None, created_before=None).href(), is_any)
    for label, minutes in _PERIODS:
        start = (now // _MINUTE - minutes) * _MINUTE
        yield Choice(f"Last {label}", address.with_filter(created_from=start, created_before=None).href(), False)


def _active(reader: Connection, address: RunsAddress) -> Iterator[ActiveFilter]:
    for name, value in address.parameters():
        if name not in _LABELS:
            continue
        rest = address.with_filter(**{_FIELDS[name]: None}).href()
        is_time = name in ("from", "to")
        text = value
        if name == "job_id":
            settings = settings_of(reader, [value])
            text = settings[value].name if value in settings else value
        yield ActiveFilter(_LABELS[name], text, value if is_time else None, rest)


def _jobs(reader: Connection, project: str) -> list[tuple[str, str]]:
    jobs = list_jobs(reader, project, PageRequest(_SUGGESTED)).items
    return sorted(((job.id, job.settings.name) for job in jobs), key=lambda pair: pair[1].lower())
