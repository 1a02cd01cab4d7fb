"""Values as people read them: pure functions, most of which are filters of the templates."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from sluice_agent.server.timestamps import timestamp_of

MISSING = "–"
"""Stands where nothing is known."""

_SHORT = 16  # characters of an identifier that is shown whole
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_PARTS = re.compile(r"[A-Z]?[^A-Z_\s-]+|[A-Z]+")
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def visible(value: Any) -> Any:
    """Return `value`; of a text with its characters that are invisible, or turn others round, as escapes.

    Markup is returned as it is: its texts have gone through this.
    """
    if type(value) is str and _HIDDEN.search(value):
        return _HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", value)
    return value


def number(value: float | None) -> str:
    """Return a number with its thousands set apart."""
    if value is None:
        return MISSING
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def counted(count: int, noun: str) -> str:
    """Return a number of things, such as ``1,204 jobs``."""
    return f"{number(count)} {noun}" if count == 1 else f"{number(count)} {noun}s"


def share(value: float | None) -> str:
    """Return a share of 1 in percent; one that is above 0 never as 0."""
    if value is None:
        return MISSING
    percent = value * 100
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.0f} %" if percent >= 1 or percent == 0 else f"{percent:.1f} %"


def duration(milliseconds: float | None) -> str:
    """Return a duration with its two largest units."""
    if milliseconds is None:
        return MISSING
    if milliseconds < 1_000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 9_995:
        return f"{milliseconds / 1_000:.2f} s"
    if milliseconds < 59_950:
        return f"{milliseconds / 1_000:.1f} s"
    rest = round(milliseconds / 1_000)
    for (unit, seconds), (smaller, smaller_seconds) in pairwise(_UNITS):
        if rest >= seconds:
            whole, remaining = divmod(rest, seconds)
            part = remaining // smaller_seconds
            return f"{whole} {unit} {part} {smaller}" if part else f"{whole} {unit}"
    return f"{rest} s"


def seconds(milliseconds: float | None) -> str:
    """Return a duration in seconds, for a column of them: to the millisecond if it is below a second."""
    if milliseconds is None:
        return MISSING
    decimals = 3 if milliseconds < 1_000 else 2 if milliseconds < 9_995 else 1
    return f"{milliseconds / 1_000:,.{decimals}f}"


def age(time: timedelta) -> str:
    """Return a limit on the age of something, in days if they are whole."""
    hours = time / timedelta(hours=1)
    return f"{time.days} days" if time.days > 1 and not time.seconds else f"{hours:g} hours"


def size(count: float | None) -> str:
    """Return a number of bytes in the unit that suits it."""
    if count is None:
        return MISSING
    for unit in ("B", "kB", "MB"):
        if count < 1_000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:.3g} GB"


def shortened(identifier: str) -> str:
    """Return an identifier without its middle if it is long."""
    return identifier if len(identifier) <= _SHORT else f"{identifier[:8]}…{identifier[-4:]}"


def without_middle(text: str, characters: int) -> str:
    """Return a text of at most so many characters, with the ends of a longer one."""
    if len(text) <= characters:
        return text
    end = characters // 4
    return f"{text[: characters - end - 1]}…{text[-end:]}"


def first_line(text: str | None, characters: int = 160) -> str:
    """Return the first line of a text, cut."""
    line = (text or "").strip().partition("\n")[0]
    return line if len(line) <= characters else f"{line[:characters]}…"


def label(key: str) -> str:
    """Return the key of a value as a label: ``maxTasksPerChild`` as ``Max tasks per child``."""
    text = " ".join(_PARTS.findall(key)).lower()
    return text[:1].upper() + text[1:] if text else key


def message_of(error: str, error_class: str) -> str:
    """Return an error without its class; empty if it is no more than that."""
    message = error.removeprefix(error_class).removeprefix(":").strip()
    return "" if message in ("()", error_class, error_class.rpartition(".")[2]) else message


def as_datetime(timestamp: str) -> datetime:
    """Return the time of an ISO 8601 timestamp in UTC."""
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00"))


def full_time(timestamp: str) -> str:
    """Return date and time in UTC, with milliseconds if it has them."""
    return f"{timestamp[:10]} {timestamp[11:].removesuffix('Z').removesuffix('.000')} UTC"


def input_time(moment: int | None) -> str:
    """Return a moment, in microseconds since 1970, as a field for date and time has it; empty for None."""
    return "" if moment is None else timestamp_of(moment)[:16]


def clock_time(timestamp: str, now: datetime) -> str:
    """Return the time of day in UTC, with the date unless that is today's."""
    time, today = as_datetime(timestamp), now.astimezone(timezone.utc)
    if time.date() == today.date():
        return f"{time:%H:%M:%S}"
    return f"{time.day} {time:%b %H:%M}" if time.year == today.year else f"{time.day} {time:%b %Y %H:%M}"


def exact_time(timestamp: str, now: datetime) -> str:
    """Return the time of day in UTC with milliseconds, and with the date unless that is today's."""
    time = as_datetime(timestamp)
    text = f"{time:%H:%M:%S}.{time.microsecond // 1_000:03d}"
    return text if time.date() == now.astimezone(timezone.utc).date() else f"{time.day} {time:%b} {text}"


def minute_time(timestamp: str, now: datetime) -> str:
    """Return the time of day in UTC without seconds, with the date unless that is today's."""
    is_today = as_datetime(timestamp).date() == now.astimezone(timezone.utc).date()
    return timestamp[11:16] if is_today else clock_time(timestamp, now)


def relative_time(timestamp: str, now: datetime) -> str:
    """Return how long ago, or in how long, a time is; beyond an hour as `clock_time`."""
    distance = now - as_datetime(timestamp)
    if abs(distance) >= timedelta(hours=1):
        return clock_time(timestamp, now)
    seconds = round(abs(distance).total_seconds())
    text = f"{seconds} s" if seconds < 60 else f"{seconds // 60} min"
    return f"{text} ago" if distance >= timedelta(0) else f"in {text}"
