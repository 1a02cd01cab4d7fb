"""A wait ends with its condition, or fails with the information to understand why."""

from __future__ import annotations

import time

import pytest

from tests.support.waiting import wait_until


def test_it_returns_the_first_truthy_value() -> None:
    """Tests that wait longer than needed make the suite too slow to be run."""
    values = iter([None, 0, "ready"])
    started = time.monotonic()
    assert wait_until(lambda: next(values)) == "ready"
    assert time.monotonic() - started < 5


def test_it_fails_with_message_and_context() -> None:
    """A failure without the last value and its context costs an engineer an afternoon."""
    with pytest.raises(pytest.fail.Exception, match=r"(?s)no answer.*KeyError.*the log"):
        wait_until(lambda: {}["missing"], usually=0.05, message="no answer", context=lambda: "the log")
