"""When a job's cron expression fires: next, and of the firings that have come, which one is still made.

A firing is made up to a minute late, or within the job's grace. Of several that have come, the latest is made, and the
others are missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

from sluice_agent.jobs import cron
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.store.schema import job
from sluice_agent.server.timestamps import to_datetime, to_moment

_SECOND = 1_000_000  # microseconds
_ON_TIME = 60  # seconds by which a firing may be late, whatever the grace is: servers are busy, and restarted
_LONGEST_GRACE = 3600  # seconds, of a job without its own
_MOST = 10_000
"""Firings that one look counts: those of each minute of a week."""


@dataclass(frozen=True, slots=True)
class Due:
    """The firings that have come: how many, and the latest two of them. Times are microseconds since 1970.

    `is_in_time` is true if the latest is still made. `next` is the first one that has not been counted.
    """

    passed: int
    latest: int
    before: int | None
    is_in_time: bool
    next: int


def due(settings: JobSettings, first: int, now: int) -> Due:
    """Return which firings of a schedule have come from `first` on, which is one of them. At most 10,000 are counted:
    those after them are found from `Due.next` on."""
    latest, before, passed = first, None, 1
    following = cron.firings_after(_expression(settings), to_datetime(first))
    upcoming = to_moment(next(following))
    while upcoming <= now and passed < _MOST:
        latest, before, passed = upcoming, latest, passed + 1
        upcoming = to_moment(next(following))
    is_all = upcoming > now
    return Due(passed, latest, before, is_all and is_in_grace(settings, latest, now), upcoming)


def counted_as_missed(found: Due) -> dict[str, Any]:
    """Return what changes in the row of a job all of whose firings that have come are missed."""
    before = job.c.last_missed_at if found.before is None else found.before
    count = job.c.missed_count + found.passed
    return {"missed_count": count, "last_missed_at": found.latest, "missed_before_at": before}


def is_in_grace(settings: JobSettings, firing: int, now: int) -> bool:
    """Return whether a firing that has come is still made."""
    grace = settings.cron_grace_secs
    if not grace:
        period = to_moment(next(cron.firings_after(_expression(settings), to_datetime(firing)))) - firing
        grace = min(period // _SECOND, _LONGEST_GRACE)
    return now - firing <= max(grace, _ON_TIME) * _SECOND


def next_firing(settings: JobSettings, now: int) -> int | None:
    """Return when a job fires next, None if it has no cron expression."""
    return next(iter(firings(settings, now, 1)), None)


def firings(settings: JobSettings, after: int, most: int) -> list[int]:
    """Return the first firings of a job after a moment; none if it has no cron expression."""
    if not settings.cron:
        return []
    found = cron.firings_after(_expression(settings), to_datetime(after))
    return [to_moment(firing) for firing in islice(found, most)]


def preview(text: str, zone: str, after: int, most: int) -> list[tuple[int, str]]:
    """Return the first firings of an expression after a moment, each with its time on the clock of the zone.

    Raises `ValueError` if the expression or the zone is none.
    """
    expression = cron.parse(text, zone)
    found = islice(cron.firings_after(expression, to_datetime(after)), most)
    return [(to_moment(firing), firing.astimezone(expression.zone).isoformat()) for firing in found]


def firings_between(text: str, zone: str, start: int, end: int, most: int) -> list[int]:
    """Return the first firings of a valid expression from `start` on, and before `end`; none of an empty one. An empty
    zone is UTC."""
    if not text:
        return []
    found = map(to_moment, cron.firings_after(cron.parse(text, zone or "UTC"), to_datetime(start - 1)))
    return list(islice(takewhile(lambda firing: firing < end, found), most))


def _expression(settings: JobSettings) -> cron.Expression:
    return cron.parse(settings.cron, settings.timezone or "UTC")
