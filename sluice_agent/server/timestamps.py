"""Timestamps of the contract, in forms that can be compared. This module reads no clock.

An instant is a number of nanoseconds since 1970 in UTC, and a moment of the database a number of microseconds.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter, WithJsonSchema

_ANY_DATETIME = TypeAdapter(datetime)
_EPOCH = datetime(1970, 1, 1)
_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
_DATE_AND_TIME = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII)
_SECONDS = 19  # characters of 2026-02-27T10:29:55


@lru_cache(maxsize=4096)  # a job's events repeat its times, and its summary keeps them: each is one object then
def to_instant(timestamp: str) -> int:
    """Return the instant of `timestamp`, a `Timestamp` of the model."""
    fraction = timestamp[_SECONDS + 1 : -1]
    return _seconds(timestamp[:_SECONDS]) * 1_000_000_000 + (int(fraction.ljust(9, "0")) if fraction else 0)


def to_moment(time: datetime) -> int:
    """Return the microseconds since 1970 of a time with a zone."""
    return (time.astimezone(timezone.utc).replace(tzinfo=None) - _EPOCH) // _MICROSECOND


def to_datetime(moment: int) -> datetime:
    """Return the time, in UTC, of microseconds since 1970."""
    return (_EPOCH + moment * _MICROSECOND).replace(tzinfo=timezone.utc)


def timestamp_of(moment: int) -> str:
    """Return the timestamp of microseconds since 1970, cut to milliseconds as the contract shows them."""
    seconds, rest = divmod(moment, 1_000_000)
    return f"{_text(seconds)}.{rest // 1_000:03d}Z"


def timestamp_or_none(moment: int | None) -> str | None:
    """Return the timestamp of a moment, None for None."""
    return None if moment is None else timestamp_of(moment)


def milliseconds_between(start: int, end: int) -> int:
    """Return the whole milliseconds between two instants; 0 if clocks disagree and the end comes first."""
    return max(0, (end - start) // 1_000_000)


def moment_of(text: Any) -> int | None:
    """Return the moment of an ISO 8601 date and time, None for anything else. Without an offset it is in UTC."""
    if not isinstance(text, str):
        return None
    try:
        time = _ANY_DATETIME.validate_python(text)
        return to_moment(time if time.tzinfo else time.replace(tzinfo=timezone.utc))
    except (ValueError, OverflowError):
        return None


def _parse_moment(value: Any) -> int:
    moment = moment_of(value) if isinstance(value, str) and _DATE_AND_TIME.fullmatch(value) else None
    if moment is None:
        raise ValueError("not a date, or a date and time such as 2026-02-27T10:29:55Z")
    return moment


def _exact_timestamp(moment: int) -> str:
    return to_datetime(moment).isoformat().replace("+00:00", "Z")


Moment = Annotated[
    int,
    BeforeValidator(_parse_moment),
    PlainSerializer(_exact_timestamp),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A moment in a request: a date, or a date and time, in UTC unless it has an offset."""


@lru_cache(maxsize=4096)
def _seconds(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // _SECOND


@lru_cache(maxsize=4096)
def _text(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()
