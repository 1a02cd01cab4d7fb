"""Timestamps of the contract, in forms that can be compared. This module reads no clock."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from pydantic import TypeAdapter

_ANY_DATETIME = TypeAdapter(datetime)
_SECONDS = 19  # characters of 2026-02-27T10:29:55


def instant(timestamp: str) -> str:
    """Return `timestamp` (a `Timestamp` of the model) with nine digits of fraction, so that instants sort as text."""
    return timestamp[:_SECONDS] + (timestamp[_SECONDS:-1] or ".").ljust(10, "0")


def milliseconds_between(start: str, end: str) -> int:
    """Return the whole milliseconds between two timestamps; 0 if clocks disagree and the end comes first."""
    return max(0, (_nanoseconds(end) - _nanoseconds(start)) // 1_000_000)


def to_utc(text: Any) -> str | None:
    """Return an ISO 8601 date and time as a timestamp in UTC, None for anything else. Without an offset it is UTC."""
    if not isinstance(text, str):
        return None
    try:
        time = _ANY_DATETIME.validate_python(text)
        time = time.astimezone(timezone.utc) if time.tzinfo else time
    except (ValueError, OverflowError):
        return None
    return text if text.endswith("Z") else time.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _nanoseconds(timestamp: str) -> int:
    seconds = datetime.fromisoformat(timestamp[:_SECONDS]).replace(tzinfo=timezone.utc).timestamp()
    return int(seconds) * 1_000_000_000 + int(instant(timestamp)[_SECONDS + 1 :])
