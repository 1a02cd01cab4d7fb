"""Values as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from sluice_agent.server.pages import formats

NOW = datetime(2026, 2, 27, 10, 30, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, "–"),
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1.00 s"),
        (9_994, "9.99 s"),
        (9_996, "10.0 s"),
        (59_949, "59.9 s"),
        (59_960, "1 min"),
        (61_000, "1 min 1 s"),
        (3_599_600, "1 h"),
        (8_040_000, "2 h 14 min"),
        (90_000_000, "1 d 1 h"),
    ],
)
def test_durations(milliseconds: float | None, text: str) -> None:
    """Who compares runs would have to count digits."""
    assert formats.duration(milliseconds) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, "–"), (0, "0.000"), (9, "0.009"), (999, "0.999"), (1_234, "1.23"), (9_994, "9.99"), (9_995, "10.0"),
     (1_234_567, "1,234.6")],
)  # fmt: skip
def test_seconds_of_a_column(milliseconds: float | None, text: str) -> None:
    """Durations below each other could not be compared at a glance."""
    assert formats.seconds(milliseconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0, "0 %"), (0.0004, "< 0.1 %"), (0.0312, "3 %"), (0.5, "50 %"), (1, "100 %")]
)
def test_shares(value: float | None, text: str) -> None:
    """Few failures among many jobs would look like none."""
    assert formats.share(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "–"), (999, "999 B"), (4_480_000, "4.48 MB"), (5e9, "5 GB"), (123e9, "123 GB")]
)
def test_sizes(count: float | None, text: str) -> None:
    """Who sets a limit would not know how near it is."""
    assert formats.size(count) == text


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (timedelta(seconds=4), "4 s ago"),
        (timedelta(minutes=59, seconds=59), "59 min ago"),
        (timedelta(hours=1), "09:30:00"),
        (timedelta(hours=11), "26 Feb 23:30"),
        (timedelta(days=400), "23 Jan 2025 10:30"),
        (timedelta(seconds=-30), "in 30 s"),
    ],
)
def test_times_are_relative_below_an_hour_only(distance: timedelta, text: str) -> None:
    """ "3 h ago" can be compared with no log."""
    timestamp = (NOW - distance).isoformat().replace("+00:00", "Z")
    assert formats.relative_time(timestamp, NOW) == text


def test_full_times() -> None:
    """The order of two events within a second could not be seen."""
    assert formats.full_time("2026-02-27T10:29:55.123Z") == "2026-02-27 10:29:55.123 UTC"
    assert formats.full_time("2026-02-27T10:29:55.000Z") == "2026-02-27 10:29:55 UTC"


def test_exact_times() -> None:
    """A job that ran for 58 ms would begin and end at the same time."""
    assert formats.exact_time("2026-02-27T10:29:55.123Z", NOW) == "10:29:55.123"
    assert formats.exact_time("2026-02-26T10:29:55Z", NOW) == "26 Feb 10:29:55.000"


def test_invisible_characters_become_visible() -> None:
    """A task could take the look of another one: U+202E shows the text after it from right to left."""
    assert formats.visible("exe\u202egnp\x00") == "exe\\u202egnp\\u0000"
    assert formats.visible("a\tb\nc – ü 日本") == "a\tb\nc – ü 日本"


def test_identifiers_lose_their_middle() -> None:
    """Ids of 36 characters would take a third of the table."""
    assert formats.shortened("2986d823-0000-4000-8000-000000009aa1") == "2986d823…9aa1"
    assert formats.shortened("job-1") == "job-1"


def test_first_lines() -> None:
    """A message of 50,000 characters would push all other jobs off the screen."""
    assert formats.first_line("\nValueError: no\nmore") == "ValueError: no"
    assert formats.first_line("x" * 50_000) == "x" * 160 + "…"
    assert formats.first_line(None) == ""


@pytest.mark.parametrize(
    ("error", "message"),
    [("OSError: no", "no"), ("OSError", ""), ("OSError: OSError", ""), ("OSError()", ""), ("it is late", "it is late")],
)
def test_the_message_of_an_error(error: str, message: str) -> None:
    """A list of errors would name each class twice."""
    assert formats.message_of(error, "OSError") == message


@pytest.mark.parametrize(
    ("key", "text"),
    [("maxTasksPerChild", "Max tasks per child"), ("pool", "Pool"), ("prefetch_count", "Prefetch count"), ("-", "-")],
)
def test_labels(key: str, text: str) -> None:
    """What a worker reports would be labelled as a program names it."""
    assert formats.label(key) == text
