"""Waiting for a condition, never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

POLL_SECONDS = 0.02

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T],
    timeout: float = 10.0,
    message: str = "the condition stayed false",
    context: Callable[[], object] | None = None,
) -> T:
    """The first truthy value of `condition`; after `timeout` seconds the test fails with `message` and `context()`.

    What the condition raises counts as "not yet" and is shown when time is up.
    """
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            last = value = condition()
            if value:
                return value
        except Exception as error:  # noqa: BLE001 - any reason may pass by the next look
            last = error
        if time.monotonic() >= deadline:
            pytest.fail(_report(message, timeout, last, context), pytrace=True)
        time.sleep(POLL_SECONDS)


def _report(message: str, seconds: float, last: object, context: Callable[[], object] | None) -> str:
    lines = [f"after {seconds:g} s: {message}", f"last look: {last!r}"]
    if context is not None:
        lines.append(str(context()))
    return "\n".join(lines)
