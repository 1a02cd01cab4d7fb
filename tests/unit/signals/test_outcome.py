"""Exceptions as Celery hands them over: whose they are, and what was said of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.model import JobState
from sluice_agent.signals.outcome import (
    error_text,
    format_traceback,
    is_reported,
    mark_reported,
    original_exception,
    outcome_stored,
)


def store() -> None:
    """A result backend that is away."""
    try:
        Path().read_text(encoding="utf-8")
    except OSError:
        raise ConnectionError("the result backend is away") from None


def run(error: Exception) -> None:
    """A task that meets one error, and raises another."""
    try:
        _ = {}["missing"]
    except KeyError:
        raise error  # noqa: B904 - with the first as its context, as Python has it


def test_the_tasks_own_error_is_found_behind_that_of_the_backend() -> None:
    """Without it a night's failures all say that the result backend was away, and none what was wrong."""
    error = ValueError("boom")
    with pytest.raises(ConnectionError) as caught:  # noqa: PT012 - one frame sees both, as Celery's does
        try:
            run(error)
        except ValueError:
            store()
    assert original_exception(caught.value) is error


def test_what_nobody_raised_before_is_itself_the_cause() -> None:
    """A backend that fails before the task runs has no other error to tell."""
    alone = ConnectionError("the result backend is away")
    assert original_exception(alone) is alone
    alone.__context__ = other = ValueError("of somebody else")
    other.__context__ = alone  # a circle
    assert original_exception(alone) is alone


class EveryAttributeError(Exception):
    """As clients of some APIs have it: any attribute is there."""

    def __getattr__(self, name: str) -> Any:
        return name


def test_only_what_was_marked_is_told() -> None:
    """Without it the failures of a client whose errors have every attribute are told by nobody."""
    error = EveryAttributeError()
    assert not is_reported(error)
    mark_reported(error)
    assert is_reported(error)


@pytest.mark.parametrize(
    "error",
    [ValueError("x" * 20_000_000), ValueError(b"x" * 20_000_000), KeyError({"body": "x" * 20_000_000})],
    ids=["str", "bytes", "dict"],
)
def test_an_error_that_holds_much_costs_little(error: Exception) -> None:
    """An error that quotes what it could not read would cost as much memory again, several times."""
    with pytest.raises(type(error)) as caught:
        run(error)
    raised = caught.value
    tracemalloc.start()
    try:
        texts = error_text(raised), format_traceback(raised)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    assert texts[0].startswith(type(error).__name__)
    assert "in run" in texts[1]


@pytest.mark.parametrize(
    ("state", "meta", "reported", "error"),
    [
        ("SUCCESS", 7, JobState.COMPLETED, None),
        ("IGNORED", None, JobState.COMPLETED, None),
        ("REVOKED", ValueError("boom"), JobState.CANCELLED, None),
        ("FAILURE", ValueError("boom"), JobState.FAILED, "ValueError: boom"),
        ("FAILURE", "boom", JobState.FAILED, "Failure: boom"),
        ("REJECTED", {"exc_type": "KeyError", "exc_message": ["boom"]}, JobState.FAILED, "KeyError: boom"),
        ("RETRY", ValueError("boom"), JobState.RETRYING, "ValueError: boom"),
        ("RETRY", {"exc_type": "KeyError", "exc_message": ["boom"]}, JobState.RETRYING, "KeyError: boom"),
    ],
)
def test_the_state_that_a_task_stores_is_reported(state: str, meta: Any, reported: JobState, error: str | None) -> None:
    """Who stores FAILURE for a job, and looks for it among the failed ones, finds it completed."""
    outcome = outcome_stored(state, meta)
    assert outcome is not None
    assert (outcome.state, outcome.celery_state, outcome.error) == (reported, state, error)


@pytest.mark.parametrize("state", ["STARTED", "PROGRESS", "RECEIVED", "POSTPONED"])
def test_a_state_that_is_no_end_is_none(state: str) -> None:
    """A job whose progress was the last that it stored would be shown as what nobody knows."""
    assert outcome_stored(state, {}) is None
