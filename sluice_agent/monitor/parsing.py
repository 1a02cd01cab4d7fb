"""What a broker event says, read with care: anything may be missing from it, and some of it is not what it seems.

An event's `timestamp` is the sender's clock in seconds of the epoch. Celery's own receiver shifts it by the difference
of the zones, which makes it wrong; as it comes off the wire it is right.
"""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Mapping
from typing import Any
from uuid import UUID

_EARLIEST = 1_000_000_000.0  # seconds of the epoch: no Celery is as old
_LATEST = 100_000_000_000.0
_MAX_AHEAD_SECONDS = (
    86_400.0  # seconds: a clock that is ahead of ours by more is broken, and what follows would be dated behind it
)
_MAX_SECONDS = 1e9  # seconds: nothing lasts for 30 years
_MAX_COUNT = 2**31 - 1  # things that can be counted: what takes an event further counts in 32 bits
_MAX_REPR = 20_000  # characters of an exception's repr that are worth parsing
_REPR = re.compile(r"([A-Za-z_]\w*)\((.*)\)", re.DOTALL)
_ERROR_LINE = re.compile(r"^(?:[A-Za-z_][\w<>]*\.)*([A-Za-z_]\w*)(: .*|:?$)", re.MULTILINE)
_FRAME = re.compile(r"^  File .*\n(?:    .*\n)*", re.MULTILINE)
_RETRY, _ETA = "Retry(Retry(...), ", ", datetime.datetime("
_MAX_RETRY_DEPTH = 8  # of one retry in another that are worth parsing
_TRACEBACK_START = re.compile(r"^(  \+ Exception Group )?Traceback \(most recent call last\):\n", re.MULTILINE)
_GROUP_MARGIN = "  | "  # before each line of a group's own traceback
_GROUP_MEMBERS = "\n  +-"  # how the lines of its members begin

Event = Mapping[str, Any]


def external_id_of(value: Any) -> str | None:
    """The id of a job, which a caller may have chosen: a number, or a UUID; None for anything else."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, (int, float, UUID)) and not isinstance(value, bool) else None


def event_time(event: Event, now: float) -> float:
    """When it happened, in seconds of the epoch; `now` where it does not say."""
    at = as_time(event.get("timestamp"), now)
    return now if at is None else at


def as_time(value: Any, now: float) -> float | None:
    """A time of somebody's wall clock, in seconds of the epoch, if it can be one while ours says `now`."""
    latest = now + _MAX_AHEAD_SECONDS if now > _EARLIEST else _LATEST
    return float(value) if isinstance(value, (int, float)) and _EARLIEST < value < latest else None


def get_text(event: Event, name: str) -> str | None:
    """A text that is there and not empty."""
    value = event.get(name)
    return value if isinstance(value, str) and value else None


def as_count(value: Any) -> int | None:
    """A number of things."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT else None


def attempt_of(event: Event) -> int:
    """The attempt that the message is for, from 1 on, of an event that names it."""
    return (as_count(event.get("retries")) or 0) + 1


def as_seconds(value: Any) -> float | None:
    """A length of time."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= _MAX_SECONDS else None


def error_of(event: Event) -> tuple[str, str | None]:
    """How a run failed, as `Type: message`, and the traceback as Python prints it, if there is one.

    `exception` is the repr of the error, or of what Celery had wrapped it in; the traceback ends with its name and what
    it says of itself, which a repr does not tell.
    """
    shown = get_text(event, "exception") or ""
    traceback = get_text(event, "traceback")
    if traceback is not None and not _TRACEBACK_START.search(traceback):
        traceback = None
    found = _REPR.fullmatch(shown)
    last = _error_line(traceback) if traceback else None
    if last is not None and (found is None or found[1] == last[0] or found[1] == "ExceptionWithTraceback"):
        return _join(*last), traceback
    if found is None:
        return shown or "unknown", traceback
    return _join(found[1], _message(found[2])), traceback


def cause_of(event: Event) -> tuple[str, str | None]:
    """Why a run is retried: the same, but the traceback is that of Celery's own `Retry`, which names no cause."""
    error, traceback = error_of(event)
    found = _REPR.fullmatch(_unwrap(get_text(event, "exception") or ""))
    return (_join(found[1], _message(found[2])) if found else error), traceback


def _unwrap(shown: str) -> str:
    """The repr of the cause, where `shown` is that of a `Retry` with its time, as all pools but prefork have it."""
    for _ in range(_MAX_RETRY_DEPTH):
        if not (shown.startswith(_RETRY) and shown.endswith(")")):
            break
        inside = shown[len(_RETRY) : -1]
        end = inside.rfind(_ETA if inside.endswith(")") else ", ")
        if end < 0:
            break
        shown = inside[:end]
    return shown


def _error_line(traceback: str) -> tuple[str, str] | None:
    """The type and the message, with its notes, with which `traceback` ends; of a group, what it says of itself."""
    *_, head = _TRACEBACK_START.finditer(traceback)
    own = traceback[head.end() :]
    if head[1]:
        lines = own.partition(_GROUP_MEMBERS)[0].split("\n")
        own = "\n".join(line.removeprefix(_GROUP_MARGIN) for line in lines)
    frames_end = 0
    for frame in _FRAME.finditer(own):
        frames_end = frame.end()
    words = _ERROR_LINE.search(own, frames_end)
    if words is None:
        return None
    message = own[words.start(2) :].rstrip()
    return words[1], message if message.startswith("\n") else message.removeprefix(":").strip()


def _message(arguments: str) -> str:
    """What an exception with these arguments says, if it says it as most do."""
    if len(arguments) > _MAX_REPR:
        return arguments
    values: tuple[object, ...]
    try:
        values = literal_eval(f"({arguments.rstrip(',')},)") if arguments.strip() else ()
        return "" if not values else str(values if len(values) > 1 else values[0])
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return arguments


def _join(name: str, message: str) -> str:
    if message.startswith("\n"):  # notes alone
        return name + message
    return f"{name}: {message}" if message else name
