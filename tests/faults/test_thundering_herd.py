"""A hundred workers whose endpoint comes back: they do not come all at once. A simulation of the real waits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest

from sluice_agent.transport import retry
from sluice_agent.transport.responses import Settled, TryAgain, Verdict
from sluice_agent.transport.retry import Retrier

WORKERS = 100
MOST_AT_ONCE = WORKERS // 10  # attempts in any one second, once the endpoint has been away for long


class Fleet:
    """Workers on a clock that jumps: each runs its own `Retrier` to its end, on its own line of time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.attempts: list[float] = []
        monkeypatch.setattr(retry.time, "monotonic", lambda: self.now)

    def run(self, back_at: float, refusal: TryAgain) -> float:
        """One worker, which begins within the first second and is refused until `back_at`; when it got through."""
        patience = Retrier(lambda _: None)
        patience._shutdown.wait = self._wait  # type: ignore[method-assign, assignment]
        self.now = random.random() if refusal.wait < 10 else 0.0

        def attempt() -> Verdict:
            self.attempts.append(self.now)
            return refusal if self.now < back_at else Settled(1, 0, 0)

        patience.verdict(attempt)
        return self.now

    def _wait(self, seconds: float | None = None) -> bool:
        assert seconds is not None
        self.now += seconds
        return False


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """A fleet whose chance is always the same."""
    state = random.getstate()
    random.seed(4)
    yield Fleet(monkeypatch)
    random.setstate(state)


def busiest(moments: list[float]) -> int:
    """How many fall into the fullest second, wherever it begins."""
    ordered = sorted(moments)
    return max(sum(1 for moment in ordered[first:] if moment < begin + 1) for first, begin in enumerate(ordered))


@pytest.mark.parametrize("away", [600.0, 3_600.0])
@pytest.mark.parametrize(
    "refusal", [TryAgain("503"), TryAgain("503 with Retry-After", wait=5.0)], ids=lambda one: one.why
)
def test_a_fleet_does_not_come_back_all_at_once(fleet: Fleet, away: float, refusal: TryAgain) -> None:
    """Without it an endpoint that has just got up is knocked down by the workers that waited for it."""
    through = [fleet.run(away, refusal) for _ in range(WORKERS)]
    assert busiest(through) <= MOST_AT_ONCE
    assert max(through) - away < 60 + refusal.wait
    late = [moment for moment in fleet.attempts if 300 < moment < away]
    assert max(Counter(map(int, late)).values()) <= MOST_AT_ONCE * 1.5  # in the fullest of thousands of seconds


@pytest.mark.parametrize(
    ("first", "moment", "exact"),
    [pytest.param(1.0, 60.0, False, id="Retry-After as a date"), pytest.param(3_600.0, 3_600.0, True, id="midnight")],
)
def test_a_moment_that_was_named_to_all_brings_them_one_after_another(
    fleet: Fleet, first: float, moment: float, exact: bool
) -> None:
    """Without it the end of a maintenance, or of the day with its limit, is when everybody comes at once.

    All are told the same moment: within the first second of a maintenance, or in the hour before midnight.
    """
    through = []
    for _ in range(WORKERS):
        told = random.random() * first
        through.append(told + fleet.run(1.0, TryAgain("wait", wait=moment - told, exact=exact)))
    assert min(through) >= moment
    assert busiest(through) <= MOST_AT_ONCE


def test_one_worker_asks_ever_more_rarely(fleet: Fleet) -> None:
    """Without it an outage of a day costs the host a request a second, and the endpoint a hundred of them."""
    fleet.run(86_400.0, TryAgain("refused"))
    assert len(fleet.attempts) < 86_400 / 30 * 1.1  # half a minute apart, on average
    gaps = [later - one for one, later in pairwise(fleet.attempts)]
    assert max(gaps) <= 60
    assert min(gaps[20:]) < 10  # the jitter is full: near nothing to all of it
