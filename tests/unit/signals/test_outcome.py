"""Exceptions as Celery passes them on: their origin and their text."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.model import JobState
from sluice_agent.signals.outcome import (
    error_text,
    format_traceback,
    original_exception,
    outcome_stored,
)


def store() -> None:
    """Fail as a result backend that is unreachable."""
    try:
        Path().read_text(encoding="utf-8")
    except OSError:
        raise ConnectionError("the result backend is away") from None


def run(error: Exception) -> None:
    """Fail as a task that handles one error, and raises another."""
    try:
        _ = {}["missing"]
    except KeyError:
        raise error  # noqa: B904 - with the first as its context, as Python has it


def test_the_tasks_own_error_is_found_behind_that_of_the_backend() -> None:
    """Without it a night's failures all show that the result backend was away, and none shows the cause."""
    error = ValueError("boom")
    with pytest.raises(ConnectionError) as caught:  # noqa: PT012 - one frame sees both, as Celery's does
        try:
            run(error)
        except ValueError:
            store()
    assert original_exception(caught.value) is error


def test_an_exception_without_an_earlier_one_is_the_cause() -> None:
    """If the backend fails before the task runs, there is no other error to report."""
    alone = ConnectionError("the result backend is away")
    assert original_exception(alone) is alone
    alone.__context__ = other = ValueError("unrelated")
    other.__context__ = alone  # a circle
    assert original_exception(alone) is alone


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
    """A user who stores FAILURE for a job, and looks for it among the failed ones, would find it completed."""
    outcome = outcome_stored(state, meta)
    assert outcome is not None
    assert (outcome.state, outcome.transition.celery_state, outcome.error) == (reported, state, error)


@pytest.mark.parametrize("state", ["STARTED", "PROGRESS", "RECEIVED", "POSTPONED"])
def test_a_state_that_is_no_end_gives_none(state: str) -> None:
    """A job that has last stored its progress would be shown in a wrong state."""
    assert outcome_stored(state, {}) is None
