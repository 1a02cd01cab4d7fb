"""What a worker takes for the message of an attempt."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sluice_agent.attempt_message import HEADER, AttemptMessage, read

MESSAGE = AttemptMessage(2, "ticket", 1_800_000_000.0)


def test_a_message_is_read_as_it_was_written() -> None:
    """No run would ever be executed."""
    assert read(MESSAGE.headers()) == MESSAGE


@pytest.mark.parametrize(
    "changed",
    [
        {"attempt": "x"},
        {"attempt": math.inf},
        {"until": None},
        {"until": math.nan},
        {"until": math.inf},
        {"until": 10**400},
    ],
)
def test_what_is_no_message_is_dropped(changed: dict[str, Any]) -> None:
    """Who can write to the broker would fill all slots with attempts that never end."""
    assert read({HEADER: {**MESSAGE.headers()[HEADER], **changed}}) is None
    for other in (None, 5, [], "attempt", {}):
        assert read({HEADER: other}) is None
    assert read({}) is None
