"""The drawing of a job's states over time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from sluice_agent.commands.timeline import timeline

START = datetime(2026, 2, 27, 10, 0, tzinfo=timezone.utc)
NOW = START + timedelta(seconds=100)


def record(*steps: tuple[str, float], attempt: int = 1) -> dict[str, Any]:
    """Return a record whose states began so many seconds after its start."""
    history = [
        {"state": state, "timestamp": (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")}
        for state, seconds in steps
    ]
    return {"stateHistory": history, "attempt": attempt}


def bars(job: dict[str, Any], width: int = 20) -> list[str]:
    return [row.bar for row in timeline(job, NOW, width)]


def test_states_are_drawn_to_scale() -> None:
    """A job that mostly waited for its queue would look as one that worked."""
    assert bars(record(("queued", 0), ("active", 5), ("completed", 20))) == [
        "░░░░░",
        "     ███████████████",
        "                   ●",
    ]


def test_idle_time_that_would_hide_the_rest_is_folded() -> None:
    """After a retry an hour later, both attempts would be a single column."""
    job = record(("active", 0), ("retrying", 4), ("active", 3_604), ("failed", 3_608), attempt=2)
    rows = timeline(job, NOW, 24)
    assert [row.bar for row in rows] == [
        "██████",
        "      ┄┄┄┄┄┄┄┄┄┄┄┄",
        "                  ██████",
        "                       ●",
    ]
    assert [row.is_folded for row in rows] == [False, True, False, False]
    assert [row.milliseconds for row in rows] == [4_000, 3_600_000, 4_000, None]
    assert [row.attempt for row in rows] == [1, None, 2, 2]


def test_a_job_in_progress_lasts_until_now() -> None:
    """A job that hangs would look as if it had just begun."""
    rows = timeline(record(("queued", 0), ("active", 50)), NOW, 10)
    assert [row.bar for row in rows] == ["░░░░░", "     █████"]
    assert rows[-1].milliseconds == 50_000


@pytest.mark.parametrize(
    "job",
    [
        record(("queued", 0)),
        record(("completed", 0)),
        record(("queued", 0), ("cancelled", 0)),
        record(("active", 200), ("active", 100), ("completed", 300)),
        record(("scheduled", 0), ("cancelled", 10**9)),
        record(("active", 0), ("completed", 1e-6)),
        record(),
    ],
)
def test_every_bar_fits_and_none_is_empty(job: dict[str, Any]) -> None:
    """A state would vanish, or the lines of a narrow terminal would break."""
    assert all(len(bar.strip()) > 0 and len(bar) <= 8 for bar in bars(job, 8))


def test_attempts_are_named_only_if_they_are_certain() -> None:
    """A history that lost its retry would show a wrong number of the attempt."""
    rows = timeline(record(("active", 0), ("failed", 1), attempt=3), NOW, 8)
    assert [row.attempt for row in rows] == [None, None]
