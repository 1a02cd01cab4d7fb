"""Cron expressions of five fields, in a time zone: when they fire next, and whether a minute is one of theirs.

The accepted syntax is numbers, names of months and days, `*`, `?`, lists, ranges and steps. Where day of month and day
of week are both restricted, either fires. On the days on which the clock changes, a fixed hour fires exactly once; an
expression whose hours or minutes begin with `*` fires at each minute that the clock shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from cronsim import CronSim

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)  # days of each month, from January
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_LONGEST = 1_000  # characters: all values of all fields take 500
_TERM = re.compile(r"(?:(?P<all>\*)|(?P<first>[0-9]+|[A-Z]+)(?:-(?P<last>[0-9]+|[A-Z]+))?)(?:/(?P<step>[0-9]+))?")

# Files beside the zones: the clock of the machine, which is another one elsewhere, and clocks that count leap seconds.
_OF_THE_MACHINE = re.compile(r"(localtime|posixrules)$|(posix|right)/")


class CronError(ValueError):
    """An expression or a time zone that is none. The message is a sentence without its full stop."""


class ZoneError(CronError):
    """A time zone that is none."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A valid expression: the text as it was given, its zone, and the form in which cronsim reads it."""

    text: str
    zone: ZoneInfo
    canonical: str


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def values(self, text: str) -> frozenset[int]:
        """Return the values at which the field fires. Raises `CronError`."""
        return frozenset(value for term in text.split(",") for value in self._values_of_term(term))

    def _values_of_term(self, term: str) -> range:
        match = _TERM.fullmatch(term)
        if match is None:
            raise CronError(f"{term!r} is no {self.name}: numbers, names, *, ?, lists, ranges and steps are")
        step = int(match["step"] or 1)
        if step == 0:
            raise CronError(f"{term!r} has a step of 0")
        if match["all"]:
            return range(self.low, self.high + 1, step)
        first = self._value(match["first"])
        alone = self.high if match["step"] else first  # a step continues to the end
        last = self._value(match["last"]) if match["last"] else alone
        if last < first:
            raise CronError(f"{term!r} is a range that goes backwards")
        return range(first, last + 1, step)

    def _value(self, text: str) -> int:
        if text in self.names:
            return self.low + self.names.index(text)
        value = int(text) if text.isdigit() else -1
        if not self.low <= value <= self.high:
            names = f", or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise CronError(f"{text!r} is no {self.name}: it is {self.low} to {self.high}{names}")
        return value


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_MONTHDAY = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day of week", 0, 6, _DAYS)


def parse(text: str, zone: str) -> Expression:
    """Return the expression that `text` is, in the IANA time zone `zone`. Raises `CronError` if one of them is none."""
    parts = text.upper().split() if len(text) <= _LONGEST else []
    if len(parts) != 5:
        raise CronError(
            "a cron expression has exactly five fields: minute, hour, day of month, month and day of week"
            f", in at most {_LONGEST:,} characters"
        )
    minute, hour, day, month, weekday = (part.replace("?", "*") for part in parts)
    canonical = (
        _times(_MINUTE, minute),
        _times(_HOUR, hour),
        _days(day, month, weekday),
        _list(_MONTH, month),
        _list(_WEEKDAY, weekday),
    )
    return Expression(text, parse_zone(zone), " ".join(canonical))


def parse_zone(name: str) -> ZoneInfo:
    """Return the time zone of an IANA name. Raises `ZoneError` if there is none."""
    with suppress(KeyError, OSError, ValueError):  # not found; a directory of the database; not a possible name
        if not _OF_THE_MACHINE.match(name):
            return ZoneInfo(name)
    raise ZoneError(f"{name!r} is no time zone of the IANA database, such as Europe/Berlin or UTC")


def firings_after(expression: Expression, moment: datetime) -> Iterator[datetime]:
    """Yield the firings after `moment`, in UTC, in their order and without end. `moment` has a time zone."""
    minutes, hours, *_ = expression.canonical.split()
    is_fixed = not minutes.startswith("*") and not hours.startswith("*")
    return _once_for_each_time(expression, moment) if is_fixed else _by_the_clock(expression, moment)


def _once_for_each_time(expression: Expression, moment: datetime) -> Iterator[datetime]:
    last = moment
    for local in CronSim(expression.canonical, moment.astimezone(expression.zone)):
        firing = local.astimezone(timezone.utc)
        if firing > last:  # cronsim starts an hour early where the clock shows `moment` for the second time
            last = firing
            yield firing


def _by_the_clock(expression: Expression, moment: datetime) -> Iterator[datetime]:
    """Yield firings at the times that the clock shows. cronsim itself errs where it changes by half an hour."""
    start, offset = moment.astimezone(timezone.utc), _offset(expression.zone, moment)
    while True:
        for local in CronSim(expression.canonical, (start + offset).replace(tzinfo=None)):
            firing = local.replace(tzinfo=timezone.utc) - offset
            change = _first_change(expression.zone, start, firing, offset)
            if change is not None:
                start, offset = change - _SECOND, _offset(expression.zone, change)
                break
            start = firing
            yield firing


def _first_change(zone: ZoneInfo, start: datetime, end: datetime, offset: timedelta) -> datetime | None:
    """Return the first second after `start`, and until `end`, at which the zone has another offset; None: there is
    none."""
    while start < end:
        step = min(start + _DAY, end)
        if _offset(zone, step) != offset:
            while step - start > _SECOND:
                middle = start + (step - start) // 2
                start, step = (middle, step) if _offset(zone, middle) == offset else (start, middle)
            return step.replace(microsecond=0)
        start = step
    return None


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    offset = moment.astimezone(zone).utcoffset()
    return offset or timedelta()


def next_after(expression: Expression, moment: datetime) -> datetime:
    """Return the first firing after `moment`, in UTC. `moment` has a time zone."""
    return next(firings_after(expression, moment))


def is_open(expression: Expression, moment: datetime) -> bool:
    """Return whether the expression fires in the minute of `moment`, which has a time zone."""
    minute = moment.astimezone(timezone.utc).replace(second=0, microsecond=0)
    return next_after(expression, minute - timedelta(seconds=1)) == minute


def next_open(expression: Expression, moment: datetime) -> datetime:
    """Return `moment` if the expression fires in its minute, and else its next firing, in UTC."""
    return moment if is_open(expression, moment) else next_after(expression, moment)


def _times(field: _Field, text: str) -> str:
    """Return a field of hours or minutes. `*` stays, by which cronsim sees that an hour is not fixed."""
    values = ((term, field.values(term)) for term in text.split(","))
    return ",".join(term if term.startswith("*") else _join(found) for term, found in values)


def _days(days: str, months: str, weekdays: str) -> str:
    """Return the field of days, without those that none of the months has."""
    longest = max(_LONGEST_MONTHS[month - 1] for month in _MONTH.values(months))
    if min(_MONTHDAY.values(days)) <= longest:
        return _list(_MONTHDAY, days)
    if _is_any(weekdays):
        raise CronError(f"day {days!r} never comes: month {months!r} has at most {longest} days")
    return "*"  # the days of the week alone decide


def _list(field: _Field, text: str) -> str:
    """Return all values of a field, or `*`: where one of the two fields of days has that, both must match."""
    return "*" if _is_any(text) else _join(field.values(text))


def _join(values: frozenset[int]) -> str:
    return ",".join(map(str, sorted(values)))


def _is_any(text: str) -> bool:
    return any(re.fullmatch(r"\*(/0*1)?", term) for term in text.split(","))
