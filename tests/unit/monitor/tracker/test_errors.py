"""The error of a job, parsed from the fields of an event: a repr and a printed traceback."""

from __future__ import annotations

import builtins
import traceback
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, NoReturn

import pytest
from celery.exceptions import Retry
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.lifecycle import transitions
from sluice_agent.monitor.tracker.parsing import cause_of, error_of
from sluice_agent.signals.outcome import outcome_of

HEAD = 'Traceback (most recent call last):\n  File "a.py", line 1, in task\n    raise Error\n'
CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"


def raised(exception: BaseException) -> str:
    """Return the traceback of `exception`, as Celery sends it."""

    def task() -> NoReturn:
        raise exception

    try:
        task()
    except BaseException as error:  # noqa: BLE001 - of any class
        return "".join(traceback.format_exception(error))


class OddlyPrintedError(Exception):
    """Its message is not its argument."""

    def __str__(self) -> str:
        return f"code {self.args[0]}:\n  see the manual\nfor more"


@pytest.mark.parametrize(
    ("exception", "expected"),
    [
        (ValueError("boom"), "ValueError: boom"),
        (ValueError(), "ValueError"),
        (ValueError("two\nlines: of it"), "ValueError: two\nlines: of it"),
        (ValueError("a", 2), "ValueError: ('a', 2)"),
        (KeyError("key"), "KeyError: 'key'"),
        (OSError(2, "No such file"), "FileNotFoundError: [Errno 2] No such file"),
        (OddlyPrintedError(7), "OddlyPrintedError: code 7:\n  see the manual\nfor more"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_an_error_that_is_printed(exception: BaseException, expected: str) -> None:
    """Users search for the text that is in the worker's log."""
    event = {"exception": repr(exception), "traceback": raised(exception)}
    assert error_of(event) == (expected, event["traceback"])


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=40))
def test_any_message(message: str) -> None:
    """Any message is reported unchanged, but for the space around it."""
    error = ValueError(message)
    text, _ = error_of({"exception": repr(error), "traceback": raised(error)})
    assert text.partition(":")[2].strip() == message.strip()


@pytest.mark.parametrize("shown", ["ExceptionWithTraceback()", "<Unrepresentable <class 'app.Odd'>: ...>", "", None])
def test_a_wrapper_for_an_exception(shown: str | None) -> None:
    """Celery sends its own wrapper in place of the error; the traceback names the error."""
    message = "Worker exited prematurely: signal 9 (SIGKILL) Job: 1."
    event = {"exception": shown, "traceback": f"{HEAD}billiard.exceptions.WorkerLostError: {message}\n"}
    assert error_of(event)[0] == f"WorkerLostError: {message}"


def test_an_error_with_a_cause() -> None:
    """The error is the last one; the causes are in the traceback."""
    event = {"exception": "ValueError('outer')", "traceback": f"{HEAD}KeyError: 'x'\n{CAUSE}{HEAD}ValueError: outer\n"}
    assert error_of(event)[0] == "ValueError: outer"


def test_an_error_that_could_not_be_pickled() -> None:
    """The traceback names the wrapper, and the repr names the error."""
    wrapper = "celery.utils.serialization.UnpickleableExceptionWrapper: LockError('holds a lock')"
    event = {"exception": "LockError('holds a lock')", "traceback": f"{HEAD}{wrapper}\n"}
    assert error_of(event)[0] == "LockError: holds a lock"


def test_without_a_traceback() -> None:
    """An unknown task, and tracebacks that a user has switched off."""
    assert error_of({"exception": "NotRegistered('no.such')"}) == ("NotRegistered: no.such", None)
    assert error_of({"exception": "Odd(<object at 0x1>, 2)"}) == ("Odd: <object at 0x1>, 2", None)
    assert error_of({"exception": "no repr at all", "traceback": "nor a traceback"}) == ("no repr at all", None)
    assert error_of({}) == ("unknown", None)


def test_why_a_job_is_retried() -> None:
    """The traceback is that of Celery's own `Retry`, and the repr names the cause, if there is one."""
    retry = f"{HEAD}celery.exceptions.Retry: Retry in 3s: ValueError('attempt 1')\n"
    assert cause_of({"exception": "ValueError('attempt 1')", "traceback": retry}) == ("ValueError: attempt 1", retry)
    bare = f"{HEAD}celery.exceptions.Retry: Retry in 0s\n"
    assert cause_of({"exception": "None", "traceback": bare}) == ("Retry: Retry in 0s", bare)


@pytest.mark.parametrize("when", [None, 0.0, 30, datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)])
def test_why_a_job_is_retried_in_the_workers_own_process(when: Any) -> None:
    """In thread pools and others Celery sends the repr of its `Retry` around the cause: users search for the cause."""
    for cause in (ValueError("again"), ValueError("3), 4"), KeyError()):
        expected, _ = cause_of({"exception": repr(cause)})
        retry = Retry(exc=cause, when=when)
        event = {"exception": repr(retry), "traceback": raised(retry)}
        assert cause_of(event) == (expected, event["traceback"])
        assert cause_of({"exception": repr(Retry(exc=retry, when=3))})[0] == expected
    bare = Retry(when=when)
    event = {"exception": repr(bare), "traceback": raised(bare)}
    assert cause_of(event)[0] == f"Retry: {bare}"


def with_notes(exception: Exception, *notes: str) -> Exception:
    """Return `exception` with these notes, where this Python supports them."""
    for note in notes:
        if hasattr(exception, "add_note"):
            exception.add_note(note)
    return exception


def group_errors() -> Iterator[Exception]:
    """Yield exceptions that hold other exceptions, as a job may raise them."""
    group = getattr(builtins, "ExceptionGroup", None)
    if group is None:  # Python 3.10
        return
    inner = with_notes(ValueError("inner"), "of the inner one")
    yield group("several", [inner, KeyError("x")])
    yield with_notes(group("several\nof them", [inner, group("nested", [raised_here(inner)])]), "of all", "two\nlines")
    yield caused_by(group("chained", [inner]), ValueError("before"))
    yield caused_by(RuntimeError("outer"), raised_here(group("before", [raised_here(inner)])))


def raised_here(exception: Exception) -> Exception:
    """Return `exception` once it has been raised, with a traceback."""
    raised(exception)
    return exception


def caused_by(exception: Exception, cause: Exception) -> Exception:
    """Return `exception`, raised from `cause`."""
    exception.__cause__ = cause
    return exception


@pytest.mark.parametrize(
    "exception",
    [
        with_notes(ValueError("boom"), "see the manual"),
        with_notes(ValueError("two\nlines"), "and\ntwo", "and one"),
        with_notes(KeyError("key"), ""),
        with_notes(ValueError(), "all that is known"),
        *group_errors(),
    ],
)
@pytest.mark.parametrize("pool", ["prefork", "others"])
def test_a_monitor_and_an_agent_report_the_same_error(exception: Exception, pool: str) -> None:
    """Users who search for an error, or group jobs by it, must find it, whichever of the two has reported it."""
    traceback = raised(exception)
    shown = repr(exception) if pool == "prefork" else "ExceptionWithTraceback()"
    error, stacktrace = error_of({"exception": shown, "traceback": traceback})
    agents = outcome_of(transitions.FAILED, exception, None)
    assert (error, stacktrace) == (str(agents.error).strip(), traceback)
    assert agents.stacktrace == traceback
