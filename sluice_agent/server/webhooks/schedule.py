"""What follows an attempt: it is delivered, given up, or due again later. Pure functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from sluice_agent.outbound.retry_after import seconds_asked

WAITS = (5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 21_600, 28_800)
"""Seconds after each failed attempt: about 22 hours in all. After one attempt more it is given up."""

_JITTER = 0.2  # of a wait: many deliveries that failed at once must not all come back at once
_LONGEST_ASKED = 21_600  # seconds: a longer Retry-After is not waited for
_GONE = 410
_ERROR = 300  # characters that are kept
_SECOND = 1_000_000


class DeliveryState(str, Enum):
    """The states of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    """The endpoint has answered with 2xx."""
    GONE = "gone"
    """The endpoint has answered with 410: it takes no more."""
    FAILED = "failed"
    """All attempts have failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt: a status (None: no response), the Retry-After of the response, and the error."""

    status: int | None
    retry_after: str | None
    error: str

    @property
    def kept_error(self) -> str | None:
        """The error as it is stored; None after a success."""
        return None if self.is_success else (self.error.replace("\x00", "")[:_ERROR] or None)

    @property
    def is_success(self) -> bool:
        """True if the endpoint has taken the delivery."""
        return self.status is not None and 200 <= self.status < 300


def after_attempt(outcome: Outcome, attempts: int, now: int, chance: Callable[[], float]) -> tuple[DeliveryState, int]:
    """Return the state after so many attempts, and the moment at which the next one is due.

    `now` is in microseconds since 1970, and `chance` returns a random number from 0 to 1.
    """
    if outcome.is_success:
        return DeliveryState.DELIVERED, now
    if outcome.status == _GONE:
        return DeliveryState.GONE, now
    if attempts > len(WAITS):
        return DeliveryState.FAILED, now
    wait = WAITS[attempts - 1] * (1 + _JITTER * chance())
    asked = min(seconds_asked(outcome.retry_after, now / _SECOND), _LONGEST_ASKED)
    return DeliveryState.PENDING, now + round(max(wait, asked) * _SECOND)
