"""Times as the contract writes them: UTC, ISO 8601, with microseconds and ``Z``; and as Celery writes them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from math import floor
from time import time_ns

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.model import TIMESTAMP

_HOURS_OF_A_DAY = 24
_FIRST_MOMENT, _LAST_MOMENT = -62_135_596_800.0, 253_402_300_799.0  # those that can be written: years 1 to 9999

_ISO_8601 = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)(?:[T ](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?"
    r"(?:Z|([+-])(\d\d)(?::?(\d\d)(?::?(\d\d))?)?)?)?",
    re.ASCII,
).fullmatch
"""What Celery takes for a time, on each Python: `datetime.fromisoformat` takes less of it before Python 3.11."""

is_timestamp = re.compile(TIMESTAMP).fullmatch
"""Whether a text is a time as the contract writes it."""


def timestamp(seconds: float) -> str:
    """Seconds of the epoch as the contract writes a time: UTC, ISO 8601, with microseconds and ``Z``."""
    whole = floor(seconds)
    microseconds = round((seconds - whole) * 1e6)  # as datetime rounds, so that a time that travels stays what it is
    if microseconds == 1_000_000:
        whole, microseconds = whole + 1, 0
    return f"{_second(whole)}.{microseconds:06d}Z"


def timestamp_now() -> str:
    """This moment, as `timestamp` writes it."""
    return timestamp_of_ns(time_ns())


def timestamp_of_ns(nanoseconds: int) -> str:
    """Nanoseconds of the epoch, as `timestamp` writes a time."""
    whole = nanoseconds // 1_000_000_000
    return f"{_second(whole)}.{nanoseconds // 1_000 % 1_000_000:06d}Z"


def timestamp_from_iso(text: str | datetime | None) -> str | None:
    """A time as Celery writes it (ISO 8601; without a zone it is UTC) as the contract does; None where it is none."""
    moment = seconds_from_iso(text)
    return None if moment is None else timestamp(moment)


def seconds_from_iso(text: str | datetime | None) -> float | None:
    """A time as Celery writes it, in seconds of the epoch; None where it is none."""
    if isinstance(text, datetime):  # some serialisers bring one through
        text = text.isoformat()
    if not text or not isinstance(text, str):
        return None
    found = _ISO_8601(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    fraction, sign, *zone = found.groups()[6:]
    hours, minutes, seconds = (int(part or 0) for part in zone)
    ahead = timedelta(hours=hours, minutes=minutes, seconds=seconds) * (-1 if sign == "-" else 1)
    days = 1 if hour == _HOURS_OF_A_DAY else 0  # 24:00 is the next day's 0:00
    microsecond = int(f"{fraction or '':0<6}"[:6])
    try:
        zone_of_it = timezone(ahead)
        moment = datetime(year, month, day, 0 if days else hour, minute, second, microsecond, zone_of_it)
    except ValueError as error:
        if is_asynchronous(error):
            raise
        return None
    return min(max(moment.timestamp() + days * 86_400, _FIRST_MOMENT), _LAST_MOMENT)


@lru_cache(maxsize=16)
def _second(whole: int) -> str:
    """A moment up to its second, which most events share with the one before."""
    return datetime.fromtimestamp(whole, timezone.utc).isoformat()[:-6]
