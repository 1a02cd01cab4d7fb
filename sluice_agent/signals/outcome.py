"""The end of a job as text: the error as `Type: message`, and the traceback as Python prints it."""

from __future__ import annotations

import builtins
import sys
import traceback
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Protocol

from celery.exceptions import Retry

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.bounded import is_short, text_of
from sluice_agent.lifecycle.encoding import Extensions
from sluice_agent.lifecycle.timestamps import timestamp_from_iso
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.model import JobState

if TYPE_CHECKING:
    from typing_extensions import Unpack

_MAX_ARGUMENT = 20_000  # characters of an exception's argument: the contract allows half of that
_MAX_ARGUMENTS = 50  # of an exception
_MAX_FRAMES = 1_000  # of a traceback: Python's default recursion limit
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())  # new in Python 3.11
_ENDS = {
    transition.celery_state: transition
    for transition in (
        transitions.SUCCEEDED,
        transitions.FAILED,
        transitions.RETRIED,
        transitions.REVOKED,
        transitions.REJECTED,
        transitions.IGNORED,
    )
}
"""The end that each state means, where a task stores it for itself."""
_IN_C = type(BaseException.__str__)
_MAX_CHAIN = 100  # exceptions, each raised while the next was handled: the user's code may have linked them in a circle


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run. `eta` is when a retry is to start."""

    transition: Transition
    error: str | None = None
    stacktrace: str | None = None
    eta: str | None = None

    @property
    def state(self) -> JobState:
        """The state that the job enters by it."""
        return self.transition.state


SUCCEEDED = Outcome(transitions.SUCCEEDED)


class Report(Protocol):
    """Report the outcome of a job that a worker's main process has received, unless it has reported an end.

    `when` is the timestamp of the outcome, if it is not now, and `runtime` the seconds that the run took.
    """

    def __call__(
        self,
        request: Any,
        outcome: Outcome,
        *,
        when: str | None = None,
        runtime: float | None = None,
        **extensions: Unpack[Extensions],
    ) -> None: ...


def outcome_of(transition: Transition, exception: BaseException, einfo: Any) -> Outcome:
    """Return the outcome that `exception` means; `einfo` is Celery's record of it."""
    eta = _eta(exception.when) if isinstance(exception, Retry) else None  # first: a countdown runs from now
    if isinstance(exception, Retry):
        cause = exception.exc if isinstance(exception.exc, BaseException) else exception
        error = error_text(cause)  # without its notes: Celery's event of a retry, which the monitor reads, has none
    else:
        error = error_with_notes(exception)
    recorded = getattr(einfo, "traceback", None)
    stacktrace = format_traceback(exception) if exception.__traceback__ is not None else str(recorded or "")
    return Outcome(transition, error, stacktrace or None, eta)


def outcome_stored(state: str, meta: Any) -> Outcome | None:
    """Return the end that a task has stored for itself before it raised `Ignore`; None if `state` is not an end.

    `meta` is an exception, a dict as Celery stores it, ``{"exc_type": …, "exc_message": …}``, or any other value.
    """
    end = _ENDS.get(state)
    if end is None:
        return None
    if end.state in (JobState.COMPLETED, JobState.CANCELLED):
        return Outcome(end)
    if isinstance(meta, BaseException):
        return outcome_of(end, meta, None)
    kind, message = (meta.get("exc_type"), meta.get("exc_message")) if isinstance(meta, dict) else (None, meta)
    parts = message[:_MAX_ARGUMENTS] if isinstance(message, (list, tuple)) else [message]
    text = ", ".join(text_of(part, _MAX_ARGUMENT)[0] for part in parts if part is not None)
    name = kind if isinstance(kind, str) and kind else "Failure"
    return Outcome(end, f"{name}: {text}" if text else name)


def original_exception(raised: BaseException) -> BaseException:
    """Return the task's own exception, if Celery raised `raised` while handling it: both passed the same frame."""
    frame = raised.__traceback__ and raised.__traceback__.tb_frame
    cause = raised.__context__
    for _ in range(_MAX_CHAIN):
        if cause is None:
            break
        if cause.__traceback__ is not None and cause.__traceback__.tb_frame is frame:
            return cause
        cause = cause.__context__
    return raised


def error_text(exception: BaseException) -> str:
    """Return `Type: message`, even if the exception's `__str__` fails."""
    name = type(exception).__qualname__
    if _is_large(exception):
        texts = (text_of(value, _MAX_ARGUMENT) for value in exception.args[:_MAX_ARGUMENTS])
        return f"{name}: " + ", ".join(f"{text}…[{cut} characters cut]" if cut else text for text, cut in texts)
    try:
        message = str(exception)
    except Exception as error:
        if is_asynchronous(error):
            raise
        message = "<exception str() failed>"
    return f"{name}: {message}" if message else name


def error_with_notes(exception: BaseException) -> str:
    """Return `error_text` with the notes that were added to the exception, as Python prints them."""
    text = error_text(exception)
    notes = getattr(exception, "__notes__", None) if sys.version_info >= (3, 11) else None
    if not isinstance(notes, list):
        return text
    try:
        return "\n".join([text, *(str(note)[:_MAX_ARGUMENT] for note in notes[:_MAX_ARGUMENTS])])
    except Exception as error:
        if is_asynchronous(error):
            raise
        return text  # a note may be anything


def format_traceback(exception: BaseException) -> str:
    """Return the traceback as Python prints it, with the chain of causes; of a very long one, its end."""
    try:
        if not any(map(_is_large, _chain(exception))):
            return "".join(traceback.format_exception(exception, limit=-_MAX_FRAMES))
    except Exception as error:
        if is_asynchronous(error):
            raise
        # A user's __str__ or __repr__ may raise anything.
    frames = "".join(traceback.format_tb(exception.__traceback__, limit=-_MAX_FRAMES))
    return f"Traceback (most recent call last):\n{frames}{error_text(exception)}\n"


def _is_large(exception: BaseException) -> bool:
    """Return whether Python would print an exception as a text too long to be of use, because of its arguments.

    A class with its own `__str__` is not checked: Celery calls that too, several times.
    """
    if type(type(exception).__str__) is not _IN_C or isinstance(exception, UnicodeError):
        return False
    printed = exception.args[:1] if isinstance(exception, _GROUP) else exception.args
    return len(printed) > _MAX_ARGUMENTS or not all(is_short(value, _MAX_ARGUMENT) for value in printed)


def _chain(exception: BaseException) -> list[BaseException]:
    """Return `exception` and its causes: those that it was raised from, or while they were handled."""
    chain: list[BaseException] = []
    link: BaseException | None = exception
    while link is not None and len(chain) < _MAX_CHAIN:
        chain.append(link)
        chain += link.exceptions[:_MAX_ARGUMENTS] if isinstance(link, _GROUP) else ()
        link = link.__cause__ or link.__context__
    return chain


def _eta(when: Any) -> str | None:
    """Return when a retry is to start: Celery keeps a date, or the seconds until then."""
    if isinstance(when, (int, float)):
        try:
            when = datetime.now(timezone.utc) + timedelta(seconds=when)
        except (OverflowError, ValueError):
            return None
    return timestamp_from_iso(when.isoformat()) if isinstance(when, datetime) else None
