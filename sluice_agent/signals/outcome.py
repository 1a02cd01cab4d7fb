"""How a job ended, in words: the error as `Type: message`, and the traceback as Python prints it."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from celery.exceptions import Retry

from sluice_agent.asynchronous import is_asynchronous
from sluice_agent.model import JobState
from sluice_agent.translation import timestamp_of

_TOLD = "_sluice_told"
_LONGEST_CHAIN = 100  # exceptions, each raised while the next was dealt with: somebody may have made a circle of them


@dataclass(frozen=True, slots=True)
class Outcome:
    """An end of an execution. `eta` is when a retry is to start."""

    state: JobState
    celery_state: str
    error: str | None = None
    stacktrace: str | None = None
    eta: str | None = None


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
    stacktrace = printed(exception) if exception.__traceback__ is not None else str(kept or "")
    return Outcome(state, celery_state, error, stacktrace or None, eta)


def raised_by_task(raised: BaseException) -> BaseException:
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


def note_told(raised: BaseException) -> None:
    """Mark what Celery goes on to raise, here and in the main process, about a job whose end is told."""
    vars(raised)[_TOLD] = True  # past whatever a class of somebody's does with attributes


def is_told(raised: BaseException) -> bool:
    """Whether the end of the job that `raised` is about was told where it ran."""
    return _TOLD in vars(raised)


def error_text(exception: BaseException) -> str:
    """`Type: message`, also where the exception can't say its message."""
    name = type(exception).__qualname__
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
        return "\n".join([text, *map(str, notes)])
    except Exception:  # noqa: BLE001 - a note may be anything
        return text


def printed(exception: BaseException) -> str:
    """The traceback as Python prints it, with the chain of causes."""
    try:
        return "".join(traceback.format_exception(exception))
    except Exception as error:
        if is_asynchronous(error):
            raise
        return "".join(traceback.format_tb(exception.__traceback__)) + error_text(exception)


def _eta(when: Any) -> str | None:
    """When a retry is to start: Celery keeps a moment, or the seconds until then."""
    if isinstance(when, (int, float)):
        try:
            when = datetime.now(timezone.utc) + timedelta(seconds=when)
        except (OverflowError, ValueError):
            return None
    return timestamp_of(when.isoformat()) if isinstance(when, datetime) else None
