"""Exceptions as Celery hands them over: whose they are, and what was said of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.signals.outcome import error_text, is_told, note_told, printed, raised_by_task


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
    assert raised_by_task(caught.value) is error


def test_what_nobody_raised_before_is_itself_the_cause() -> None:
    """A backend that fails before the task runs has no other error to tell."""
    alone = ConnectionError("the result backend is away")
    assert raised_by_task(alone) is alone
    alone.__context__ = other = ValueError("of somebody else")
    other.__context__ = alone  # a circle
    assert raised_by_task(alone) is alone


class EveryAttributeError(Exception):
    """As clients of some APIs have it: any attribute is there."""

    def __getattr__(self, name: str) -> Any:
        return name


def test_only_what_was_marked_is_told() -> None:
    """Without it the failures of a client whose errors have every attribute are told by nobody."""
    error = EveryAttributeError()
    assert not is_told(error)
    note_told(error)
    assert is_told(error)


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
        texts = error_text(raised), printed(raised)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    assert texts[0].startswith(type(error).__name__)
    assert "in run" in texts[1]
