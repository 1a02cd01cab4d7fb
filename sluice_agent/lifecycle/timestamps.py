"""Timestamps as the contract defines them: UTC, ISO 8601, with microseconds and ``Z``; and times in Celery's form."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from math import floor
from time import time_ns

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.model import TIMESTAMP

_HOURS_OF_A_DAY = 24
_MIN_SECONDS, _MAX_SECONDS = -62_135_596_800.0, 253_402_300_799.0  # the range of a timestamp: years 1 to 9999

_ISO_8601 = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?"
    r"(?:Z|([+-])(\d\d)(?::?(\d\d)(?::?(\d\d))?)?)?)?",
    re.ASCII,
).fullmatch
"""Match a time as Celery parses it, on each Python: `datetime.fromisoformat` accepts fewer forms before Python 3.11."""

_latest = (0, "1970-01-01T00:00:00")
"""The beginning of the second of the last timestamp, in nanoseconds, and its text, which the next one mostly shares."""

_THREE_DIGITS = tuple(f"{number:03d}" for number in range(1_000))
"""The numbers below 1,000 as text: to format one takes several times as long, and this runs around every task."""

is_timestamp = re.compile(TIMESTAMP).fullmatch
"""Match a timestamp as the contract defines it."""


def timestamp(seconds: float) -> str:
    """Return the timestamp of a time in seconds since the epoch: UTC, ISO 8601, with microseconds and ``Z``."""
    whole = floor(seconds)
    microseconds = round(
        (seconds - whole) * 1e6
    )  # as datetime rounds, so that a time that is converted twice stays the same
    if microseconds == 1_000_000:
        whole, microseconds = whole + 1, 0
    return f"{_second(whole)}.{str(microseconds + 1_000_000)[1:]}Z"  # `:06d` takes five times as long


def timestamp_now() -> str:
    """Return the timestamp of the present time."""
    return timestamp_of_ns(time_ns())


def timestamp_of_ns(nanoseconds: int) -> str:
    """Return the timestamp of a time in nanoseconds since the epoch."""
    global _latest  # noqa: PLW0603 - a cache, as one object: no thread sees half of it
    start, text = _latest
    rest = nanoseconds - start
    if not 0 <= rest < 1_000_000_000:
        whole, rest = divmod(nanoseconds, 1_000_000_000)
        text = _second(whole)
        _latest = nanoseconds - rest, text
    microseconds = rest // 1_000  # of the small difference: a division of the whole time costs three times as much
    milliseconds = microseconds // 1_000
    return f"{text}.{_THREE_DIGITS[milliseconds]}{_THREE_DIGITS[microseconds - milliseconds * 1_000]}Z"


def timestamp_from_iso(text: str | datetime | None) -> str | None:
    """Return the timestamp of a time as Celery writes it (ISO 8601; UTC if it has no zone); None if it is no time."""
    seconds = seconds_from_iso(text)
    return None if seconds is None else timestamp(seconds)


def seconds_from_iso(text: str | datetime | None) -> float | None:
    """Return a time as Celery writes it, in seconds since the epoch; None if it is not a time."""
    if isinstance(text, datetime):  # some serialisers preserve the type
        text = text.isoformat()
    if not text or not isinstance(text, str):
        return None
    match = _ISO_8601(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    fraction, sign, *zone = match.groups()[6:]
    hours, minutes, seconds = (int(part or 0) for part in zone)
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds) * (-1 if sign == "-" else 1)
    days = 1 if hour == _HOURS_OF_A_DAY else 0  # 24:00 is the next day's 0:00
    microsecond = int(f"{fraction or '':0<6}"[:6])
    try:
        date = datetime(year, month, day, 0 if days else hour, minute, second, microsecond, timezone(offset))
    except ValueError as error:
        if is_asynchronous(error):
            raise
        return None
    return min(max(date.timestamp() + days * 86_400, _MIN_SECONDS), _MAX_SECONDS)


@lru_cache(maxsize=16)
def _second(whole: int) -> str:
    """Return a timestamp up to its second, which most events share with the one before."""
    return datetime.fromtimestamp(whole, timezone.utc).isoformat()[:-6]
