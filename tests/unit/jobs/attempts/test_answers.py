"""What an answer means, and how an attempt ends."""

from __future__ import annotations

import pytest

from sluice_agent.jobs.attempts.answers import FALLBACK, Ending, ErrorClass, classify, ending

TABLE = [
    # statuses, class, retried, fallback
    ((200, 201, 202, 204, 299), None, False, False),
    ((401, 403), ErrorClass.AUTH, False, False),
    ((400, 402, 404, 409, 410, 422, 451), ErrorClass.CLIENT, False, False),
    ((408, 425), ErrorClass.TRANSIENT, True, True),
    ((429,), ErrorClass.RATE_LIMITED, True, True),
    ((500, 502, 503, 504, 599), ErrorClass.SERVER, True, True),
    ((300, 301, 307, 399), ErrorClass.UNKNOWN, True, False),
]


@pytest.mark.parametrize(("statuses", "error_class", "is_retried", "has_fallback"), TABLE)
def test_a_status_decides_what_follows(
    statuses: tuple[int, ...], error_class: ErrorClass | None, is_retried: bool, has_fallback: bool
) -> None:
    """A request that can't succeed would be repeated, or one that could be given up."""
    for status in statuses:
        assert classify(status) is error_class
        assert (ending(error_class, 1, 2) is Ending.RETRIED) is is_retried
        assert (error_class in FALLBACK) is has_fallback


def test_the_last_attempt_ends_the_run() -> None:
    """A run would be sent more often than its job allows, or its end say another reason."""
    assert ending(ErrorClass.SERVER, 2, 3) is Ending.RETRIED
    assert ending(ErrorClass.SERVER, 3, 3) is Ending.DEAD_LETTER
    assert ending(ErrorClass.TIMEOUT, 2, 3) is Ending.RETRIED
    assert ending(ErrorClass.TIMEOUT, 3, 3) is Ending.TIMED_OUT
    assert ending(None, 3, 3) is Ending.COMPLETED


def test_an_endpoint_can_forbid_another_attempt() -> None:
    """An endpoint that knows that it will fail would be asked again and again."""
    assert ending(ErrorClass.SERVER, 1, 3, ends_run=True) is Ending.DEAD_LETTER
