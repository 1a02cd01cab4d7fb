"""How a job ended, in words: the error as `Type: message`, and the traceback as Python prints it."""

from __future__ import annotations

import builtins
import sys
import traceback
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from celery.exceptions import Retry
from celery.states import FAILURE, IGNORED, REJECTED, RETRY, REVOKED, SUCCESS

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.bounded import is_short, text_of
from sluice_agent.model import JobState
from sluice_agent.timestamps import timestamp_from_iso

_REPORTED = "_sluice_told"
_LARGEST_ARGUMENT = 20_000  # characters of an exception's argument: the contract takes half of that
_MOST_ARGUMENTS = 50  # of an exception
_MOST_FRAMES = 1_000  # of a traceback: Python's own limit, where nobody has raised it
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())  # new in Python 3.11
_ENDS = {
    SUCCESS: JobState.COMPLETED,
    FAILURE: JobState.FAILED,
    RETRY: JobState.RETRYING,
    REVOKED: JobState.CANCELLED,
    REJECTED: JobState.FAILED,
    IGNORED: JobState.COMPLETED,
}
"""What the states mean that a task may store for itself as its end."""
_IN_C = type(BaseException.__str__)
_LONGEST_CHAIN = 100  # exceptions, each raised while the next was dealt with: somebody may have made a circle of them


@dataclass(frozen=True, slots=True)
class Outcome:
    """An end of an execution. `eta` is when a retry is to start."""

    state: JobState
    celery_state: str
    error: str | None = None
    stacktrace: str | None = None
    eta: str | None = None


COMPLETED = Outcome(JobState.COMPLETED, "SUCCESS")


def outcome_of(state: JobState, celery_state: str, exception: BaseException, einfo: Any) -> Outcome:
    """The outcome that `exception` stands for; `einfo` is what Celery keeps of it."""
    eta = None
    if isinstance(exception, Retry):
        eta = _eta(exception.when)
        cause = exception.exc if isinstance(exception.exc, BaseException) else exception
        error = error_text(cause)  # without its notes: Celery's event of a retry, which a monitor reads, has none
    else:
        error = error_with_notes(exception)
    kept = getattr(einfo, "traceback", None)
    stacktrace = format_traceback(exception) if exception.__traceback__ is not None else str(kept or "")
    return Outcome(state, celery_state, error, stacktrace or None, eta)


def outcome_stored(state: str, meta: Any) -> Outcome | None:
    """The end that a task has stored for itself, before it raised `Ignore`; None where `state` is none.

    `meta` is an exception, or as Celery would have it: ``{"exc_type": …, "exc_message": …}``, and the task's own.
    """
    ended = _ENDS.get(state)
    if ended is None:
        return None
    if ended in (JobState.COMPLETED, JobState.CANCELLED):
        return Outcome(ended, state)
    if isinstance(meta, BaseException):
        return outcome_of(ended, state, meta, None)
    kind, message = (meta.get("exc_type"), meta.get("exc_message")) if isinstance(meta, dict) else (None, meta)
    parts = message[:_MOST_ARGUMENTS] if isinstance(message, (list, tuple)) else [message]
    text = ", ".join(text_of(part, _LARGEST_ARGUMENT)[0] for part in parts if part is not None)
    name = kind if isinstance(kind, str) and kind else "Failure"
    return Outcome(ended, state, f"{name}: {text}" if text else name)


def original_exception(raised: BaseException) -> BaseException:
    """What the task has raised, where Celery then raised `raised` as it dealt with that: one frame has seen both."""
    seen_by = raised.__traceback__ and raised.__traceback__.tb_frame
    cause = raised.__context__
    for _ in range(_LONGEST_CHAIN):
        if cause is None:
            break
        if cause.__traceback__ is not None and cause.__traceback__.tb_frame is seen_by:
            return cause
        cause = cause.__context__
    return raised


def mark_reported(raised: BaseException) -> None:
    """Mark what Celery goes on to raise, here and in the main process, about a job whose end is told."""
    vars(raised)[_REPORTED] = True  # past whatever a class of somebody's does with attributes


def is_reported(raised: BaseException) -> bool:
    """Whether the end of the job that `raised` is about was told where it ran."""
    return _REPORTED in vars(raised)


def error_text(exception: BaseException) -> str:
    """`Type: message`, also where the exception can't say its message."""
    name = type(exception).__qualname__
    if _is_large(exception):
        shown = (text_of(value, _LARGEST_ARGUMENT) for value in exception.args[:_MOST_ARGUMENTS])
        return f"{name}: " + ", ".join(f"{text}…[{cut} characters cut]" if cut else text for text, cut in shown)
    try:
        message = str(exception)
    except Exception as error:
        if is_asynchronous(error):
            raise
        message = "<exception str() failed>"
    return f"{name}: {message}" if message else name


def error_with_notes(exception: BaseException) -> str:
    """The same with the notes that were added to the exception, as Python prints them."""
    text = error_text(exception)
    notes = getattr(exception, "__notes__", None) if sys.version_info >= (3, 11) else None
    if not isinstance(notes, list):
        return text
    try:
        return "\n".join([text, *(str(agent_header)[:_LARGEST_ARGUMENT] for agent_header in notes[:_MOST_ARGUMENTS])])
    except Exception as error:
        if is_asynchronous(error):
            raise
        return text  # a note may be anything


def format_traceback(exception: BaseException) -> str:
    """The traceback as Python prints it, with the chain of causes; of a very long one, its end."""
    try:
        if not any(map(_is_large, _chain(exception))):
            return "".join(traceback.format_exception(exception, limit=-_MOST_FRAMES))
    except Exception as error:
        if is_asynchronous(error):
            raise
        # A user's __str__ or __repr__ may raise anything.
    frames = "".join(traceback.format_tb(exception.__traceback__, limit=-_MOST_FRAMES))
    return f"Traceback (most recent call last):\n{frames}{error_text(exception)}\n"


def _is_large(exception: BaseException) -> bool:
    """Whether Python would print an exception with text that grows with its arguments beyond all use.

    What a class of the user's makes of them Celery asks for too, several times.
    """
    if type(type(exception).__str__) is not _IN_C or isinstance(exception, UnicodeError):
        return False
    printed_ones = exception.args[:1] if isinstance(exception, _GROUP) else exception.args
    return len(printed_ones) > _MOST_ARGUMENTS or not all(is_short(value, _LARGEST_ARGUMENT) for value in printed_ones)


def _chain(exception: BaseException) -> list[BaseException]:
    """`exception`, and what it was raised from or while that was dealt with."""
    found: list[BaseException] = []
    link: BaseException | None = exception
    while link is not None and len(found) < _LONGEST_CHAIN:
        found.append(link)
        found += link.exceptions[:_MOST_ARGUMENTS] if isinstance(link, _GROUP) else ()
        link = link.__cause__ or link.__context__
    return found


def _eta(when: Any) -> str | None:
    """When a retry is to start: Celery keeps a moment, or the seconds until then."""
    if isinstance(when, (int, float)):
        try:
            when = datetime.now(timezone.utc) + timedelta(seconds=when)
        except (OverflowError, ValueError):
            return None
    return timestamp_from_iso(when.isoformat()) if isinstance(when, datetime) else None
