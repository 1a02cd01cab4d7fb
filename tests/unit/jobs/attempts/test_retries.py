"""The delays before the next attempt."""

from __future__ import annotations

import pytest

from sluice_agent.jobs.attempts.retries import RetryStrategy, base_delay, retry_delay


@pytest.mark.parametrize(
    ("strategy", "delays", "expected"),
    [
        (RetryStrategy.EXPONENTIAL, [], {1: 1, 2: 2, 3: 4, 12: 2048, 13: 3600, 100_000: 3600}),
        (RetryStrategy.LINEAR, [], {1: 1, 2: 2, 3: 3, 3600: 3600, 3601: 3600}),
        (RetryStrategy.FIXED, [], {1: 1, 2: 1, 50: 1}),
        (RetryStrategy.CUSTOM, [5, 60, 9999], {1: 5, 2: 60, 3: 3600, 4: 3600}),
        (RetryStrategy.CUSTOM, [], {1: 1, 2: 2, 3: 4}),
        (RetryStrategy.EXPONENTIAL, [5], {1: 1, 2: 2}),
    ],
)
def test_each_strategy_has_its_delays(strategy: RetryStrategy, delays: list[int], expected: dict[int, int]) -> None:
    """An endpoint that fails would be asked at other times than its job defines."""
    assert {attempt: base_delay(strategy, attempt, delays) for attempt in expected} == expected


def test_delays_are_spread() -> None:
    """Runs that failed at once would all come back at once."""
    delays = [retry_delay(RetryStrategy.CUSTOM, 1, [10], 0, lambda: chance) for chance in (0.0, 0.5, 1.0)]  # noqa: B023
    assert delays == pytest.approx([8, 10, 12])


@pytest.mark.parametrize(("asked", "expected"), [(5, 10), (30, 30), (1e12, 86_400), (-5, 10)])
def test_an_endpoint_is_given_the_time_that_it_asks_for(asked: float, expected: float) -> None:
    """An endpoint that is busy would be asked before it can answer; or a run wait for ever."""
    assert retry_delay(RetryStrategy.CUSTOM, 1, [10], asked, lambda: 0.5) == expected
