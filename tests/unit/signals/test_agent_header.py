"""The agent header of a message, which any client that can publish may have written."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_agent.signals.agent_header import HEADER, read_header, replacements
from sluice_agent.signals.message_headers import facts_of

WHEN = "2026-02-27T10:00:00.000000Z"


@pytest.mark.parametrize(
    ("agent_header", "known"),
    [
        ({"createdAt": WHEN, "publishedAt": WHEN, "replacements": "2"},) * 2,
        ({"createdAt": '"', "publishedAt": "today", "replacements": "2"}, {"replacements": "2"}),
        ({"createdAt": WHEN, "replacements": "-1"}, {"createdAt": WHEN}),
        ({"createdAt": WHEN, "replacements": "٣ or so"}, {"createdAt": WHEN}),
        ({"createdAt": WHEN, "replacements": "9" * 5_000}, {"createdAt": WHEN}),
        ({"createdAt": 5, "replacements": 2}, {}),
        ("a text", {}),
        (None, {}),
    ],
)
def test_values_that_no_agent_has_written_are_left_out(agent_header: Any, known: dict[str, str]) -> None:
    """A time is copied into an event unchanged: a malformed one would make the event invalid."""
    assert read_header({HEADER: agent_header}) == known


@pytest.mark.parametrize(
    ("agent_header", "count"),
    [({"createdAt": WHEN, "replacements": "2"}, 2), ({"replacements": "2"}, 2), ({"createdAt": WHEN}, 0), ({}, 1)],
)
def test_replacements_are_those_of_the_job_itself(agent_header: dict[str, str], count: int) -> None:
    """Celery counts what follows in a chain as replaced too: a monitor would then report the job under another id."""
    assert replacements({"replaced_task_nesting": 1}, agent_header) == count


@pytest.mark.parametrize(
    ("priority", "expected"), [("3", 3), ("high", None), ("9" * 5_000, None), pytest.param(10**5_000, None, id="huge")]
)
def test_a_priority_that_is_no_number_costs_no_event(priority: Any, expected: int | None) -> None:
    """A client may write anything there: the job must be reported all the same."""
    ours = {"id": "1"}, {"priority": priority}
    brokers = {"id": "1", "delivery_info": {"priority": priority}}, {}
    for headers, agent_header in (ours, brokers):
        assert facts_of(headers, agent_header, name="app.add", queue=None).extensions.get("priority") == expected
