"""How long a run waits before its next attempt. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

_SHORTEST = 1.0  # seconds, before the jitter
_LONGEST = 3_600.0
_JITTER = 0.2  # of a delay, in both directions: runs that failed at once must not all come back at once
_LONGEST_ASKED = 86_400.0  # seconds: a longer Retry-After is not waited for


class RetryStrategy(str, Enum):
    """The strategies of a job, by the delay after attempt n, in seconds."""

    EXPONENTIAL = "exponential"
    """1, 2, 4, …"""
    LINEAR = "linear"
    """1, 2, 3, …"""
    FIXED = "fixed"
    """1"""
    CUSTOM = "custom"
    """The job's `retry_delays_secs`, the last of them for all that follow; without any as `exponential`."""


def base_delay(strategy: RetryStrategy, attempt: int, delays: Sequence[float] = ()) -> float:
    """Return the seconds after attempt number `attempt`, from 1, before jitter: 1 to 3,600."""
    if strategy is RetryStrategy.CUSTOM and delays:
        delay = delays[min(attempt, len(delays)) - 1]
    elif strategy is RetryStrategy.LINEAR:
        delay = attempt
    elif strategy is RetryStrategy.FIXED:
        delay = 1
    else:
        delay = 2 ** min(attempt - 1, 12)
    return min(max(float(delay), _SHORTEST), _LONGEST)


def retry_delay(
    strategy: RetryStrategy,
    attempt: int,
    delays: Sequence[float],
    asked: float,
    chance: Callable[[], float],
) -> float:
    """Return the seconds until the next attempt.

    `asked` are the seconds of the endpoint's Retry-After, or 0; `chance` returns a random number from 0 to 1.
    """
    delay = base_delay(strategy, attempt, delays) * (1 - _JITTER + 2 * _JITTER * chance())
    return max(delay, min(asked, _LONGEST_ASKED))
