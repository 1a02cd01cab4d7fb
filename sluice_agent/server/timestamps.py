"""Moments in time as the contract writes them, in forms that can be compared. No clock here."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from pydantic import TypeAdapter

_ANY_DATETIME = TypeAdapter(datetime)
_SECONDS = 19  # characters of 2026-02-27T10:29:55


def instant(timestamp: str) -> str:
    """`timestamp` (a `Timestamp` of the model) with all nine digits of its fraction, so that instants sort as text."""
    return timestamp[:_SECONDS] + (timestamp[_SECONDS:-1] or ".").ljust(10, "0")


def is_real(timestamp: str) -> bool:
    """Whether `timestamp`, which has the form of one, is a date of the calendar: February has no 31st."""
    try:
        datetime.fromisoformat(timestamp[:_SECONDS])
    except ValueError:
        return False
    return True


def milliseconds_between(start: str, end: str) -> int:
    """Whole milliseconds from one timestamp to the other; 0 where clocks disagree and the end comes first."""
    return max(0, (_nanoseconds(end) - _nanoseconds(start)) // 1_000_000)


def in_utc(text: Any) -> str | None:
    """An ISO 8601 date and time as a timestamp in UTC; None for anything else. Without an offset it is UTC already."""
    if not isinstance(text, str):
        return None
    try:
        moment = _ANY_DATETIME.validate_python(text)
        moment = moment.astimezone(timezone.utc) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None
    return text if text.endswith("Z") else moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _nanoseconds(timestamp: str) -> int:
    seconds = datetime.fromisoformat(timestamp[:_SECONDS]).replace(tzinfo=timezone.utc).timestamp()
    return int(seconds) * 1_000_000_000 + int(instant(timestamp)[_SECONDS + 1 :])
