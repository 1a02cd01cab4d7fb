"""Cron expressions: which are accepted, and when they fire."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sluice_agent.jobs.cron import CronError, is_open, next_after, next_open, parse

LONGEST = dict(enumerate((31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), start=1))
"""The most days that each month has."""
BERLIN = ZoneInfo("Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def in_berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


def firings(text: str, start: datetime, end: datetime, zone: str = "Europe/Berlin") -> list[str]:
    """Return the firings from `start` to `end`, as the clock of `zone` shows them, with their offset."""
    expression = parse(text, zone)
    found = []
    firing = next_after(expression, start - timedelta(seconds=1))
    while firing < end:
        found.append(firing.astimezone(ZoneInfo(zone)).strftime("%d %H:%M %z"))
        firing = next_after(expression, firing)
    return found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "exactly five fields"),
        ("* * * *", "exactly five fields"),
        ("0 * * * * *", "exactly five fields"),
        ("@daily", "exactly five fields"),
        ("TZ=UTC * * * * *", "exactly five fields"),
        ("* * * * " + "0," * 600 + "0", "exactly five fields"),
        ("60 * * * *", "'60' is no minute: it is 0 to 59"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of month"),
        ("* * * 13 *", "'13' is no month: it is 1 to 12, or JAN to DEC"),
        ("* * * * 7", "'7' is no day of week: it is 0 to 6, or SUN to SAT"),
        ("* * * * 5-7", "'7' is no day of week"),
        ("* * * * MONDAY", "'MONDAY' is no day of week"),
        ("* MON * * *", "'MON' is no hour"),
        ("5-1 * * * *", "goes backwards"),
        ("* * * * FRI-MON", "goes backwards"),
        ("*/0 * * * *", "has a step of 0"),
        ("*/-1 * * * *", "is no minute"),
        (", * * * *", "is no minute"),
        ("1,,2 * * * *", "is no minute"),
        ("* * L * *", "'L' is no day of month"),
        ("* * 15W * *", "is no day of month"),
        ("* * * * 1#2", "is no day of week"),
        ("* * * * 5L", "is no day of week"),
        ("0 0 31 2 *", "day '31' never comes: month '2' has at most 29 days"),
        ("0 0 31 4,JUN,9 ?", "never comes"),
        ("٣ * * * *", "is no minute"),
    ],
)
def test_what_no_expression_is_gets_a_reason(text: str, reason: str) -> None:
    """A schedule that means something else, or never fires, would be accepted."""
    with pytest.raises(CronError, match=reason):
        parse(text, "UTC")


@pytest.mark.parametrize(
    "name", ["", "Berlin", "Europe", "Europe/berlin", "../etc/passwd", "/etc/passwd", "a\0b", "é" * 300, "localtime"]
)
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    """A schedule in a zone that does not exist would never fire, or the request would be a fault of the server."""
    with pytest.raises(CronError, match="no time zone of the IANA database"):
        parse("* * * * *", name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", "2026-11-30T10:31"),
        ("*/20 * * * *", "2026-11-30T10:40"),
        ("5/20 * * * *", "2026-11-30T10:45"),
        ("0 9-17 * * 1-5", "2026-11-30T11:00"),
        ("0 0 ? jan Mon", "2027-01-04T00:00"),
        ("0 0 13 * FRI", "2026-12-04T00:00"),  # either day fires
        ("0 0 */10 * FRI", "2026-12-01T00:00"),  # 1, 11, 21 and 31, and Fridays
        ("0 0 5,* * FRI", "2026-12-04T00:00"),  # a list with * restricts nothing
        ("0 0 1-31 * FRI", "2026-12-01T00:00"),
        ("0 0 */1 * FRI", "2026-12-04T00:00"),
        ("0 0 * * 1/3", "2026-12-03T00:00"),  # Monday and Thursday, and not Sunday
        ("0 0 * * 5/2", "2026-12-04T00:00"),
        ("0 0 31 2 TUE", "2027-02-02T00:00"),  # the day never comes: Tuesdays in February
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("007 012 * * *", "2026-11-30T12:07"),
        ("0 0 * * 0-6", "2026-12-01T00:00"),
        ("0/99 0 * * *", "2026-12-01T00:00"),
    ],
)
def test_the_next_firing(text: str, expected: str) -> None:
    """Jobs would run on other days than the same line of a crontab."""
    assert next_after(parse(text, "UTC"), utc("2026-11-30T10:30")) == utc(expected)


def test_a_firing_is_in_the_zone_of_the_job() -> None:
    """A job of nine o'clock would run at nine o'clock of the server."""
    assert next_after(parse("0 9 * * *", "Asia/Kolkata"), utc("2026-11-30T00:00")) == utc("2026-11-30T03:30")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 2 * * *", ["29 03:00 +0200"]),
        ("0 2,3 * * *", ["29 03:00 +0200"]),
        ("30 1-3 * * *", ["29 01:30 +0100", "29 03:00 +0200", "29 03:30 +0200"]),
        ("30 * * * *", ["29 00:30 +0100", "29 01:30 +0100", "29 03:30 +0200"]),
    ],
)
def test_a_fixed_hour_fires_once_on_the_day_without_it(text: str, expected: list[str]) -> None:
    """A nightly job would not run in one night of the year, or twice."""
    assert firings(text, in_berlin("2026-03-29T00:00"), in_berlin("2026-03-29T04:00")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30 2 * * *", ["25 02:30 +0200"]),
        ("0-59/30 2 * * *", ["25 02:00 +0200", "25 02:30 +0200"]),
        (
            "30 * * * *",
            [f"25 {time}" for time in ("00:30 +0200", "01:30 +0200", "02:30 +0200", "02:30 +0100", "03:30 +0100")],
        ),
    ],
)
def test_a_fixed_hour_fires_once_on_the_day_that_has_it_twice(text: str, expected: list[str]) -> None:
    """A nightly job would run twice in one night of the year."""
    assert firings(text, in_berlin("2026-10-25T00:00"), in_berlin("2026-10-25T04:00")) == expected


@pytest.mark.parametrize("minute", range(0, 60, 7))
def test_no_firing_lies_in_the_past(minute: int) -> None:
    """A scheduler that asks in the repeated hour would get a moment that has passed, and start the job in a loop."""
    moment = in_berlin(f"2026-10-25T02:{minute:02}", fold=1)
    assert next_after(parse("45 2 * * *", "Europe/Berlin"), moment) == in_berlin("2026-10-26T02:45")


def test_a_window_is_open_in_the_minutes_of_its_firings() -> None:
    """A run would start outside its window, or wait although it is open."""
    window = parse("* 9-16 * * 1-5", "Europe/Berlin")
    for time, opens in {
        "2026-11-30T08:59:59": "2026-11-30T09:00",
        "2026-11-30T09:00": None,
        "2026-11-30T16:59:59.999999": None,
        "2026-11-30T17:00": "2026-12-01T09:00",
        "2026-12-05T12:00": "2026-12-07T09:00",
    }.items():
        moment = in_berlin(time)
        assert is_open(window, moment) == (opens is None)
        assert next_open(window, moment) == (moment if opens is None else in_berlin(opens))


def test_office_hours_need_an_asterisk_as_minute() -> None:
    """`0 9-17 * * 1-5` at 09:30 waits until 10:00, as the minutes of its firings are few."""
    window = parse("0 9-17 * * 1-5", "UTC")
    assert next_open(window, utc("2026-11-30T09:30")) == utc("2026-11-30T10:00")


def numbers(low: int, high: int) -> st.SearchStrategy[tuple[str, set[int]]]:
    """Return fields with their values."""
    value = st.integers(low, high)
    everything = set(range(low, high + 1))
    ranges = st.tuples(value, value, st.integers(1, 20)).map(sorted_range)
    steps = st.integers(1, 20).map(lambda step: (f"*/{step}", set(range(low, high + 1, step))))
    term = st.one_of(value.map(lambda number: (str(number), {number})), ranges, steps)
    lists = st.lists(term, min_size=1, max_size=3).map(
        lambda terms: (",".join(text for text, _ in terms), set().union(*(values for _, values in terms)))
    )
    return st.one_of(st.just(("*", everything)), lists)


def sorted_range(parts: tuple[int, int, int]) -> tuple[str, set[int]]:
    first, last = sorted(parts[:2])
    return f"{first}-{last}/{parts[2]}", set(range(first, last + 1, parts[2]))


@given(
    fields=st.tuples(numbers(0, 59), numbers(0, 23), numbers(1, 31), numbers(1, 12), numbers(0, 6)),
    moment=st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(ZoneInfo("Asia/Kolkata"))),
)
def test_firings_are_those_of_the_definition(fields: tuple[tuple[str, set[int]], ...], moment: datetime) -> None:
    """Jobs would run at other times than their expression means."""
    (_, minutes), (_, hours), (day, days), (_, months), (weekday, weekdays) = fields
    text = " ".join(text for text, _ in fields)

    def fires(time: datetime) -> bool:
        matches_day, matches_weekday = time.day in days, time.isoweekday() % 7 in weekdays
        is_any = {"*", "*/1"} & {*day.split(","), *weekday.split(",")}
        on_day = matches_day and matches_weekday if is_any else matches_day or matches_weekday
        return on_day and time.month in months and time.hour in hours and time.minute in minutes

    assume(weekday != "*" or min(days) <= max(LONGEST[month] for month in months))
    expression = parse(text, "Asia/Kolkata")
    firing = next_after(expression, moment).astimezone(moment.tzinfo)
    assert firing > moment
    assert fires(firing)
    assert is_open(expression, firing)
    between = [moment + timedelta(minutes=minute) for minute in range(1, 1500)]
    for time in (time.replace(second=0, microsecond=0) for time in between):
        assert not (moment < time < firing and fires(time))
        if time >= firing:
            break
