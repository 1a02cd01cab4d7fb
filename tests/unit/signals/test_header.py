"""Our header of a message, which anybody who can publish may have written."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_agent.signals.header import HEADER, replacements, written

WHEN = "2026-02-27T10:00:00.000000Z"


@pytest.mark.parametrize(
    ("note", "known"),
    [
        ({"createdAt": WHEN, "publishedAt": WHEN, "replacements": "2"},) * 2,
        ({"createdAt": '"', "publishedAt": "today", "replacements": "2"}, {"replacements": "2"}),
        ({"createdAt": WHEN, "replacements": "-1"}, {"createdAt": WHEN}),
        ({"createdAt": WHEN, "replacements": "٣ or so"}, {"createdAt": WHEN}),
        ({"createdAt": 5, "replacements": 2}, {}),
        ("a text", {}),
        (None, {}),
    ],
)
def test_what_we_can_not_have_written_is_left_out(note: Any, known: dict[str, str]) -> None:
    """A time goes into an event as it is: what is none would make the event one that nobody can read."""
    assert written({HEADER: note}) == known


@pytest.mark.parametrize(
    ("note", "count"),
    [({"createdAt": WHEN, "replacements": "2"}, 2), ({"replacements": "2"}, 2), ({"createdAt": WHEN}, 0), ({}, 1)],
)
def test_replacements_are_those_of_the_job_itself(note: dict[str, str], count: int) -> None:
    """Celery counts what follows in a chain as replaced too: by that a monitor would know it under another id."""
    assert replacements({"replaced_task_nesting": 1}, note) == count
