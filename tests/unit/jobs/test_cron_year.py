"""A year of firings beside a reckoning of its own: a walk over all quarters of an hour, which each zone divides evenly.

The rules that it applies: a time of day that the clock shows is a firing of an expression that has it. An expression
whose hours and minutes are both fixed fires once for each of its times: at the first of two equal times, and for one
that the clock leaves out when it goes on. Any other fires at each minute that the clock really shows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from sluice_agent.jobs.cron import firings_after, parse

START, END = datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2027, 1, 1, tzinfo=timezone.utc)
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # the clock changes at midnight, so that a day begins at one o'clock
    "Australia/Lord_Howe",  # by half an hour
    "Asia/Kolkata",  # never; and is 5:30 ahead
)
ALL = range(60)
EXPRESSIONS: dict[str, tuple[Mapping[str, set[int]], bool]] = {}
"""Of each expression its values, and whether its hours and minutes are fixed."""


def add(text: str, *, fixed: bool, **values: object) -> None:
    EXPRESSIONS[text] = ({name: set(given) for name, given in values.items()}, fixed)  # type: ignore[call-overload]


add("30 2 * * *", minute=[30], hour=[2], fixed=True)
add("0 0 * * *", minute=[0], hour=[0], fixed=True)
add("45 1 * * *", minute=[45], hour=[1], fixed=True)
add("0 2,3 * * *", minute=[0], hour=[2, 3], fixed=True)
add("15,45 0-3 * * *", minute=[15, 45], hour=range(4), fixed=True)
add("5 23 * * 6", minute=[5], hour=[23], weekday=[6], fixed=True)
add("0 9 * * MON-FRI", minute=[0], hour=[9], weekday=range(1, 6), fixed=True)
add("30 2 * * SUN", minute=[30], hour=[2], weekday=[0], fixed=True)
add("0 12 1 * *", minute=[0], hour=[12], day=[1], fixed=True)
add("0 0 29 2 *", minute=[0], hour=[0], day=[29], month=[2], fixed=True)
add("0 6 13 * FRI", minute=[0], hour=[6], day=[13], weekday=[5], fixed=True)
add("59 23 31 12 *", minute=[59], hour=[23], day=[31], month=[12], fixed=True)
add("0 4 1,15 JAN-MAR ?", minute=[0], hour=[4], day=[1, 15], month=range(1, 4), fixed=True)
add("0 0 */10 * *", minute=[0], hour=[0], day=[1, 11, 21, 31], fixed=True)
add("0 * * * *", minute=[0], fixed=False)
add("*/20 * * 3,4,9-11 SAT,0", minute=[0, 20, 40], month=[3, 4, 9, 10, 11], weekday=[0, 6], fixed=False)
add("7 */4 * * *", minute=[7], hour=range(0, 24, 4), fixed=False)
add("10/25 * * 3,4,9,10,11 0", minute=[10, 35], month=[3, 4, 9, 10, 11], weekday=[0], fixed=False)
add("*/30 1-3 * * *", minute=[0, 30], hour=[1, 2, 3], fixed=False)
add("* 2 * 3,4,9-11 SUN", minute=ALL, hour=[2], month=[3, 4, 9, 10, 11], weekday=[0], fixed=False)


@cache
def walk(zone: str) -> Mapping[date, Mapping[int, list[datetime]]]:
    """Return of each day all quarters of an hour that the clock of a zone shows: by their minute of the day, when."""
    days: dict[date, dict[int, list[datetime]]] = defaultdict(lambda: defaultdict(list))
    moment, place = START - timedelta(days=2), ZoneInfo(zone)
    while moment < END + timedelta(days=2):
        local = moment.astimezone(place)
        assert local.minute % 15 == 0
        days[local.date()][local.hour * 60 + local.minute].append(moment)
        moment += timedelta(minutes=15)
    for incomplete in (min(days), max(days)):
        del days[incomplete]
    return days


def is_day(values: Mapping[str, set[int]], day: date) -> bool:
    """Return whether an expression fires on a day. If both fields of days are restricted, either is enough."""
    if "month" in values and day.month not in values["month"]:
        return False
    weekday = day.isoweekday() % 7
    matches = [value in values[name] for name, value in (("day", day.day), ("weekday", weekday)) if name in values]
    return any(matches) or not matches


def reckon(values: Mapping[str, set[int]], zone: str, *, fixed: bool) -> Iterator[datetime]:
    """Yield the firings by the definition, in no order."""
    times = [divmod(hour * 60 + minute, 15) for hour in values.get("hour", range(24)) for minute in values["minute"]]
    for day, quarters in walk(zone).items():
        for quarter, minute in times if is_day(values, day) else ():
            shown = [moment + timedelta(minutes=minute) for moment in quarters.get(quarter * 15, ())]
            if shown or not fixed:
                yield from shown[:1] if fixed else shown
            else:  # the clock leaves it out
                yield min(moments[0] for later, moments in quarters.items() if later > quarter * 15)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_a_year_of_firings(text: str, zone: str) -> None:
    """Jobs would run at another time than their schedule means, on days on which nobody looks."""
    values, fixed = EXPRESSIONS[text]
    expected = sorted({moment for moment in reckon(values, zone, fixed=fixed) if START <= moment < END})
    found = []
    for firing in firings_after(parse(text, zone), START - timedelta(seconds=1)):
        if firing >= END:
            break
        found.append(firing)
    assert found == expected


def test_there_are_twenty_expressions_in_five_zones_with_all_changes_of_their_clocks() -> None:
    """A year without a change of the clock would prove nothing."""
    assert (len(EXPRESSIONS), len(ZONES)) == (20, 5)
    changes = {zone: sum(sum(map(len, day.values())) != 96 for day in walk(zone).values()) for zone in ZONES}
    assert changes == dict.fromkeys(ZONES[:4], 2) | {"Asia/Kolkata": 0}
