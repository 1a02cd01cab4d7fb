"""Waits for conditions, never for a fixed time. Workers import it, and pay nothing for pytest."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

POLL_SECONDS = 0.02
TIMEOUT_FACTOR = 3
"""How many times the usual seconds a timeout has: tests run in parallel, on machines that they share."""

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    usually: float = 10.0,
    message: str = "the condition stayed false",
    context: Callable[[], object] | None = None,
) -> T:
    """Return the first truthy value of `condition`, which usually comes within `usually` seconds.

    After `TIMEOUT_FACTOR` times that, fail the test with `message` and `context()`. An exception of the
    condition counts as false, and is shown in the failure.
    """
    return within(TIMEOUT_FACTOR * usually, condition, message, context)


def within(
    seconds: float,
    condition: Callable[[], T],
    message: str = "the condition stayed false",
    context: Callable[[], object] | None = None,
) -> T:
    """Do the same with an exact timeout, where the time itself is tested: a user was promised these seconds."""
    deadline = time.monotonic() + seconds
    while True:
        last: object
        try:
            last = value = condition()
            if value:
                return value
        except Exception as error:  # noqa: BLE001 - the fault may be gone at the next check
            last = error
        if time.monotonic() >= deadline:
            import pytest

            pytest.fail(_report(message, seconds, last, context), pytrace=True)
        time.sleep(POLL_SECONDS)


def _report(message: str, seconds: float, last: object, context: Callable[[], object] | None) -> str:
    lines = [f"after {seconds:g} s: {message}", f"last value: {last!r}"]
    if context is not None:
        lines.append(str(context()))
    return "\n".join(lines)
