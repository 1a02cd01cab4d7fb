"""A hundred workers whose endpoint recovers: they do not all retry at once. A simulation of the real waits."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest

from sluice_agent.transport.delivery.responses import Settled, TryAgain, Verdict
from sluice_agent.transport.delivery.retry import Retrier

WORKERS = 100
MAX_AT_ONCE = WORKERS // 10  # attempts in any one second, after a long outage of the endpoint


class Fleet:
    """Workers on a simulated clock: each runs its own `Retrier` to its end, on its own timeline."""

    def __init__(self) -> None:
        self.now = 0.0
        self.attempts: list[float] = []

    def run(self, back_at: float, refusal: TryAgain) -> float:
        """Run a worker that starts within the first second and is refused until `back_at`; return when it succeeded."""
        retrier = Retrier(lambda _: None, clock=lambda: self.now, wait=self._wait)
        self.now = random.random() if refusal.wait < 10 else 0.0

        def attempt() -> Verdict:
            self.attempts.append(self.now)
            return refusal if self.now < back_at else Settled(1, 0, 0)

        retrier.verdict(attempt)
        return self.now

    def _wait(self, _: threading.Event, seconds: float) -> bool:
        self.now += seconds
        return False


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet with a fixed random seed."""
    state = random.getstate()
    random.seed(4)
    yield Fleet()
    random.setstate(state)


def busiest(moments: list[float]) -> int:
    """Return the number of times in the fullest second, wherever it begins."""
    ordered = sorted(moments)
    return max(sum(1 for moment in ordered[first:] if moment < begin + 1) for first, begin in enumerate(ordered))


@pytest.mark.parametrize("outage", [600.0, 3_600.0])
@pytest.mark.parametrize(
    "refusal", [TryAgain("503"), TryAgain("503 with Retry-After", wait=5.0)], ids=lambda refusal: refusal.reason
)
def test_a_fleet_does_not_retry_all_at_once(fleet: Fleet, outage: float, refusal: TryAgain) -> None:
    """Without it an endpoint that has just recovered is overloaded by the workers that waited for it."""
    through = [fleet.run(outage, refusal) for _ in range(WORKERS)]
    assert busiest(through) <= MAX_AT_ONCE
    assert max(through) - outage < 60 + refusal.wait
    late = [moment for moment in fleet.attempts if 300 < moment < outage]
    assert max(Counter(map(int, late)).values()) <= MAX_AT_ONCE * 1.5  # in the fullest of thousands of seconds


@pytest.mark.parametrize(
    ("first", "moment", "exact"),
    [pytest.param(1.0, 60.0, False, id="Retry-After as a date"), pytest.param(3_600.0, 3_600.0, True, id="midnight")],
)
def test_a_time_that_all_workers_received_spreads_their_retries(
    fleet: Fleet, first: float, moment: float, exact: bool
) -> None:
    """Without it all workers retry at once at the end of a maintenance, or of the day with its limit.

    All receive the same time: within the first second of a maintenance, or in the hour before midnight.
    """
    through = []
    for _ in range(WORKERS):
        received_at = random.random() * first
        through.append(received_at + fleet.run(1.0, TryAgain("wait", wait=moment - received_at, exact=exact)))
    assert min(through) >= moment
    assert busiest(through) <= MAX_AT_ONCE


def test_one_worker_retries_ever_more_rarely(fleet: Fleet) -> None:
    """Without it an outage of a day costs the host a request a second, and the endpoint a hundred of them."""
    fleet.run(86_400.0, TryAgain("refused"))
    assert len(fleet.attempts) < 86_400 / 30 * 1.1  # half a minute apart, on average
    gaps = [later - earlier for earlier, later in pairwise(fleet.attempts)]
    assert max(gaps) <= 60
    assert min(gaps[20:]) < 10  # the jitter is full: from nearly zero to the whole wait
