"""Rates: what columns of things a minute show."""

from __future__ import annotations

import pytest

from sluice_agent.server.pages.rates import Rate


@pytest.mark.parametrize(
    ("count", "minutes", "text"),
    [
        (0, 60, "0"),
        (1, 1_440, "0.01"),
        (24, 60, "0.40"),
        (120, 60, "2.0"),
        (600, 60, "10"),
        (120_000, 60, "2,000"),
        (1_204, 4.9, "1,204 in 5 min"),
        (3, 1, "3 in 1 min"),
    ],
)
def test_a_rate_has_the_digits_that_it_needs(count: int, minutes: float, text: str) -> None:
    """A column would mix 0.4 and 0.46, and call what happened in one minute a rate."""
    assert Rate(count, minutes).text == text
