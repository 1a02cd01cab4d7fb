"""Waiting for a condition, never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

POLL_SECONDS = 0.02
PATIENCE = 3
"""How many times as long as usual a thing may take: tests run side by side, on machines that are not theirs alone."""

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    usually: float = 10.0,
    message: str = "the condition stayed false",
    context: Callable[[], object] | None = None,
) -> T:
    """The first truthy value of `condition`, which `usually` is there within so many seconds.

    After `PATIENCE` times that the test fails with `message` and `context()`. What the condition raises counts as "not
    yet" and is shown when time is up.
    """
    return within(PATIENCE * usually, condition, message, context)


def within(
    seconds: float,
    condition: Callable[[], T],
    message: str = "the condition stayed false",
    context: Callable[[], object] | None = None,
) -> T:
    """The same where the time is what is tested: a user has been promised these seconds."""
    deadline = time.monotonic() + seconds
    while True:
        last: object
        try:
            last = value = condition()
            if value:
                return value
        except Exception as error:  # noqa: BLE001 - any reason may pass by the next look
            last = error
        if time.monotonic() >= deadline:
            pytest.fail(_report(message, seconds, last, context), pytrace=True)
        time.sleep(POLL_SECONDS)


def _report(message: str, seconds: float, last: object, context: Callable[[], object] | None) -> str:
    lines = [f"after {seconds:g} s: {message}", f"last look: {last!r}"]
    if context is not None:
        lines.append(str(context()))
    return "\n".join(lines)
