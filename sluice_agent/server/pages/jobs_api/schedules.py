"""``/schedules``: the jobs that cron fires: when next and last, what was missed, and all firings of a day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.definitions.schedule import firings_between
from sluice_agent.jobs.routes.pages import cursor_of, position_of
from sluice_agent.jobs.runs.schedules import Schedule, list_schedules
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.jobs_api.definitions import state_of
from sluice_agent.server.pages.jobs_api.runs import Cursor
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, WantedScope, jobs_scope_of
from sluice_agent.server.pages.no_jobs import no_jobs_page
from sluice_agent.server.pages.render import render
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none, to_moment

_LIMIT = 50
_DAY = 86_400_000_000  # microseconds
_MOST = 1_500  # firings of a day: those of each minute, and of the hour that a change of the clock repeats
_NAMED = 4  # times that a row of the calendar names


class ScheduleRow(NamedTuple):
    """A job that cron fires. `missed` and `skipped` count firings that made no run."""

    id: str
    name: str
    cron: str
    zone: str
    state: str
    next_at: str | None
    last_at: str | None
    last_run: str | None
    last_status: str | None
    missed: int
    missed_at: str | None
    skipped: int
    skipped_at: str | None


class DayOfFirings(NamedTuple):
    """The firings of a day: how many, the first of them as timestamps, and how many these leave out. `path` draws a
    line at the position of each in the day, of 1,000 units."""

    total: int
    first: Sequence[str]
    further: int
    path: str


class DayRow(NamedTuple):
    """The firings of a job in a day."""

    id: str
    name: str
    firings: DayOfFirings


class SchedulesView(NamedTuple):
    """The list and the calendar of a day, which is one of UTC."""

    rows: Sequence[ScheduleRow]
    first: str | None
    older: str | None
    day: str
    is_today: bool
    now_at: float | None
    """Where the present is in the day, of 1,000 units."""
    days: Sequence[DayRow]
    before: str | None
    after: str | None
    today: str


def schedules_router(sources: JobsSources) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/schedules")
    def schedules(
        request: Request,
        wanted: WantedScope,
        day: Annotated[str, Query(max_length=10)] = "",
        cursor: Cursor = None,
    ) -> HTMLResponse:
        now = sources.pages.now().astimezone(timezone.utc)
        with sources.store.reading() as reader:
            scope = jobs_scope_of(sources, reader, wanted)
            if scope.project is None:
                return no_jobs_page(sources.pages, request, "schedules", scope.connections)
            page = PageRequest(_LIMIT, position_of(cursor) if cursor else None)
            found = list_schedules(reader, scope.project, page)
        older = None if found.next is None else cursor_of(found.next)
        view = _view(scope, found.items, _day_of(day, now), now, cursor or None, older)
        layout = scope.layout(sources, "schedules", "Schedules", is_live=True)
        return render(request, "schedules.html", layout, view)

    return router


def _day_of(text: str, now: datetime) -> date:
    if not text:
        return now.date()
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    if not 1971 <= found.year <= 2199:
        raise RefusedError(400, "The day is not valid.", {"day": "must be a date such as 2026-02-27"})
    return found


def _view(
    scope: JobsScope, schedules: Sequence[Schedule], day: date, now: datetime, cursor: str | None, older: str | None
) -> SchedulesView:
    start = to_moment(datetime(day.year, day.month, day.day, tzinfo=timezone.utc))
    moment = to_moment(now)
    is_today = day == now.date()
    kept = {} if cursor is None else {"cursor": cursor}

    def href(of: date) -> str:
        return scope.href("/schedules", **kept, day=of.isoformat())

    return SchedulesView(
        rows=[_row(schedule) for schedule in schedules],
        first=scope.href("/schedules") if cursor else None,
        older=None if older is None else scope.href("/schedules", cursor=older),
        day=day.isoformat(),
        is_today=is_today,
        now_at=(moment - start) / _DAY * 1_000 if is_today else None,
        days=[row for row in (_day_row(schedule.job, start) for schedule in schedules) if row.firings.total],
        before=href(day - timedelta(days=1)),
        after=href(day + timedelta(days=1)),
        today=scope.href("/schedules", **kept),
    )


def _row(schedule: Schedule) -> ScheduleRow:
    job = schedule.job
    return ScheduleRow(
        id=job.id,
        name=job.settings.name,
        cron=job.settings.cron,
        zone=job.settings.timezone or "UTC",
        state=state_of(job),
        next_at=timestamp_or_none(job.next_fire_at),
        last_at=timestamp_or_none(schedule.last_fire_at),
        last_run=schedule.last_run_id if schedule.last_run_status is not None else None,
        last_status=None if schedule.last_run_status is None else schedule.last_run_status.value,
        missed=schedule.missed_count,
        missed_at=timestamp_or_none(schedule.last_missed_at),
        skipped=schedule.skipped_count,
        skipped_at=timestamp_or_none(schedule.last_skipped_at),
    )


def _day_row(job: Job, start: int) -> DayRow:
    """Return the firings of a job in the day that begins at `start`; of one that is disabled none."""
    settings = job.settings
    found = _firings_of(settings.cron, settings.timezone, start) if job.enabled else _NONE
    return DayRow(job.id, settings.name, found)


@lru_cache(maxsize=256)  # a page has up to fifty, each of up to 1,500 firings, and is asked for again and again
def _firings_of(cron: str, zone: str, start: int) -> DayOfFirings:
    found = firings_between(cron, zone, start, start + _DAY, _MOST)
    first = [timestamp_of(firing) for firing in found[:_NAMED]]
    path = "".join(f"M{round((firing - start) / _DAY * 1_000, 1)} 2v12" for firing in found)
    return DayOfFirings(len(found), first, len(found) - len(first), path)


_NONE = DayOfFirings(0, (), 0, "")
