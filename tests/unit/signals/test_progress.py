"""Progress by Celery's own convention, ``{"current": 3, "total": 10}``."""

from __future__ import annotations

from math import inf, isnan, nan
from typing import Any

import pytest

from sluice_agent.signals.progress import _fraction


@pytest.mark.parametrize(
    ("meta", "fraction"),
    [
        ({"current": 3, "total": 10}, 0.3),
        ({"current": 11, "total": 10}, 1.0),
        ({"current": -1, "total": 10}, 0.0),
        ({"current": 10**400, "total": 1}, 1.0),
        ({"current": -(10**400), "total": 1}, 0.0),
        ({"current": 10**400, "total": 2 * 10**400}, 0.5),
        ({"current": 1, "total": inf}, 0.0),
        ({"current": 1, "total": 0}, None),
        ({"current": 1, "total": nan}, None),
        ({"current": "1", "total": 2}, None),
        ({"total": 2}, None),
        (None, None),
    ],
)
def test_a_ratio_of_any_two_numbers(meta: Any, fraction: float | None) -> None:
    """Without it a task fails for its progress bar, or is shown as done after it has reported nonsense."""
    assert _fraction(meta) == fraction


def test_nan_is_no_progress() -> None:
    """A task that reports NaN must not be shown as done."""
    fraction = _fraction({"current": nan, "total": 10})
    assert fraction is not None
    assert isnan(fraction), "the report leaves it out"
