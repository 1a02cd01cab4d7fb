"""Parsing of the fields of broker events: any field may be missing, and some do not hold what their name suggests.

An event's `timestamp` is the sender's clock in seconds of the epoch. Celery's own receiver shifts it by the difference
of the time zones, which makes it wrong; as it comes off the wire it is right.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Mapping
from typing import Any
from uuid import UUID

EARLIEST_TIME = 1_000_000_000.0
"""Seconds of the epoch: Celery is younger."""

_LATEST = 100_000_000_000.0
# A clock that is ahead of ours by more is broken, and all later events of the job would be dated behind it.
_MAX_AHEAD_SECONDS = 86_400.0
_MAX_SECONDS = 1e9  # nothing lasts for 30 years
_MAX_COUNT = 2**31 - 1  # servers that receive our events count in 32 bits
_MAX_REPR = 20_000  # characters: a longer repr of an exception is not parsed
_REPR = re.compile(r"([A-Za-z_]\w*)\((.*)\)", re.DOTALL)
_ERROR_LINE = re.compile(r"^(?:[A-Za-z_][\w<>]*\.)*([A-Za-z_]\w*)(: .*|:?$)", re.MULTILINE)
_FRAME = re.compile(r"^  File .*\n(?:    .*\n)*", re.MULTILINE)
_RETRY, _ETA = "Retry(Retry(...), ", ", datetime.datetime("
_MAX_RETRY_DEPTH = 8  # retries nested deeper are not parsed
_TRACEBACK_START = re.compile(r"^(  \+ Exception Group )?Traceback \(most recent call last\):\n", re.MULTILINE)
_GROUP_MARGIN = "  | "  # before every line of a group's own traceback
_GROUP_MEMBERS = "\n  +-"  # how the lines of its members begin

Event = Mapping[str, Any]


def external_id_of(value: Any) -> str | None:
    """Return the id of a job, or None if it is none: a caller may have chosen a number, or a UUID."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, (int, float, UUID)) and not isinstance(value, bool) else None


def event_time(event: Event, now: float) -> float:
    """Return when the event happened, in seconds of the epoch; `now` where it has no valid time."""
    at = as_time(event.get("timestamp"), now)
    return now if at is None else at


def as_time(value: Any, now: float) -> float | None:
    """Return `value` if it is a plausible wall-clock time, in seconds of the epoch, while our clock is at `now`."""
    latest = now + _MAX_AHEAD_SECONDS if now > EARLIEST_TIME else _LATEST
    return float(value) if isinstance(value, (int, float)) and EARLIEST_TIME < value < latest else None


def get_text(event: Event, name: str) -> str | None:
    """Return a text that is not empty, if the event has it."""
    value = event.get(name)
    return value if isinstance(value, str) and value else None


def as_count(value: Any) -> int | None:
    """Return `value` if it is a valid count."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT else None


def attempt_of(event: Event) -> int:
    """Return the attempt of the message that the event describes, from 1 on."""
    return (as_count(event.get("retries")) or 0) + 1


def as_seconds(value: Any) -> float | None:
    """Return `value` if it is a valid duration in seconds."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= _MAX_SECONDS else None


def error_of(event: Event) -> tuple[str, str | None]:
    """Return the error of a run as `Type: message`, and the traceback as Python prints it, if there is one.

    `exception` is the repr of the error, or of Celery's wrapper around it. The traceback ends with the type and the
    `str` of the error, which a repr does not contain.
    """
    text = get_text(event, "exception") or ""
    traceback = get_text(event, "traceback")
    if traceback is not None and not _TRACEBACK_START.search(traceback):
        traceback = None
    match = _REPR.fullmatch(text)
    error_line = _error_line(traceback) if traceback else None
    if error_line is not None and (match is None or match[1] == error_line[0] or match[1] == "ExceptionWithTraceback"):
        return _join(*error_line), traceback
    if match is None:
        return text or "unknown", traceback
    return _join(match[1], _message(match[2])), traceback


def cause_of(event: Event) -> tuple[str, str | None]:
    """Return the cause of a retry, as `error_of` does; the traceback is that of Celery's `Retry`, without a cause."""
    error, traceback = error_of(event)
    match = _REPR.fullmatch(_unwrap(get_text(event, "exception") or ""))
    return (_join(match[1], _message(match[2])) if match else error), traceback


def _unwrap(text: str) -> str:
    """Return the repr of the cause if `text` is that of a `Retry` with its time, as all pools but prefork send it."""
    for _ in range(_MAX_RETRY_DEPTH):
        if not (text.startswith(_RETRY) and text.endswith(")")):
            break
        inside = text[len(_RETRY) : -1]
        end = inside.rfind(_ETA if inside.endswith(")") else ", ")
        if end < 0:
            break
        text = inside[:end]
    return text


def _error_line(traceback: str) -> tuple[str, str] | None:
    """Return the error's type and message, with its notes, from the end of `traceback`; of a group, only its own."""
    *_, start = _TRACEBACK_START.finditer(traceback)
    body = traceback[start.end() :]
    if start[1]:
        lines = body.partition(_GROUP_MEMBERS)[0].split("\n")
        body = "\n".join(line.removeprefix(_GROUP_MARGIN) for line in lines)
    frames_end = 0
    for frame in _FRAME.finditer(body):
        frames_end = frame.end()
    match = _ERROR_LINE.search(body, frames_end)
    if match is None:
        return None
    message = body[match.start(2) :].rstrip()
    return match[1], message if message.startswith("\n") else message.removeprefix(":").strip()


def _message(arguments: str) -> str:
    """Return the message of an exception with these arguments, if its `str` is the usual one."""
    if len(arguments) > _MAX_REPR:
        return arguments
    values: tuple[object, ...]
    try:
        values = literal_eval(f"({arguments.rstrip(',')},)") if arguments.strip() else ()
        return "" if not values else str(values if len(values) > 1 else values[0])
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return arguments


def _join(name: str, message: str) -> str:
    if message.startswith("\n"):  # it has notes only
        return name + message
    return f"{name}: {message}" if message else name
