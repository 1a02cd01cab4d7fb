"""The accounts: captured = delivered + rejected + dropped + pending, at every moment, for every reader."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from sluice_agent.transport.delivery.responses import Refused, Settled, TryAgain, Verdict
from sluice_agent.transport.delivery.shipper import Shipper
from sluice_agent.transport.journal import accounting
from sluice_agent.transport.journal.accounting import is_settled
from sluice_agent.transport.journal.directory import file_sizes
from sluice_agent.transport.journal.line import EVENTS, VITALS
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.waiting import wait_until
from tests.unit.transport.lines import event, figures, numbers_in, write_file


class RandomDestination:
    """A destination in memory that refuses, rejects, deduplicates and fails at random."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def send(self, lines: list[bytes]) -> Verdict:
        if any(number % 50 == 0 for number in numbers_in(lines)):
            return Refused("400 on purpose")
        rejected = self.rng.randrange(len(lines) + 1)
        known = self.rng.randrange(len(lines) - rejected + 1)
        settled = Settled(len(lines) - rejected, rejected, known, "200 on purpose")
        return self.rng.choice([settled, TryAgain("down")])

    def close(self) -> None:
        """Nothing is open."""


class AcceptingDestination:
    """A destination in memory that takes everything."""

    def send(self, lines: list[bytes]) -> Verdict:
        return Settled(len(lines), 0, 0)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("seed", range(4))
def test_the_accounts_add_up_at_every_step(directory: Path, seed: int) -> None:
    """Figures that do not add up at some moment can't be trusted at any."""
    rng = random.Random(seed)
    journal = JournalWriter(directory, 64_000_000)
    captured = 0

    def append() -> None:
        journal.append(event(captured), rng.choice([EVENTS, VITALS]))

    def drop() -> None:
        journal.drop(rng.choice(["before_send", "internal_error"]))

    def ship() -> None:
        shipper = Shipper(
            directory,
            "sluice",
            lambda _: RandomDestination(rng),
            interval=0,
            max_lines=rng.randrange(1, 9),
            max_bytes=9_999,
        )
        shipper.stop(0.05)
        shipper.run()

    steps: list[Callable[[], object]] = [append] * 8 + [drop, ship, journal.close]
    for _ in range(300):
        step = rng.choice(steps)
        step()
        captured += step in (append, drop)
        stats = figures(directory)
        assert stats["captured"] == captured
        total = stats["delivered"] + stats["rejected"] + sum(stats["dropped"].values()) + stats["pending"]
        assert total == captured
        assert stats["duplicates"] <= stats["delivered"]
    journal.close()
    assert min(stats["delivered"], stats["rejected"], sum(stats["dropped"].values())) > 0


def test_the_accounts_are_whole_while_events_are_delivered(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are delivered and removed between two reads must not look like lost events."""
    for first in range(0, 30, 10):
        write_file(directory, *(event(first + n) for n in range(1, 10)))
    shipper = Shipper(directory, "sluice", lambda _: AcceptingDestination(), interval=0, max_lines=10, max_bytes=9_999)
    real = accounting.count_beyond

    def count(path: Path, *args: object, **options: object) -> int:
        shipper._step()
        return real(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(accounting, "count_beyond", count)
    assert [figures(directory)["captured"] for _ in range(5)] == [27] * 5
    shipper._lock.release()


def test_a_goal_is_reached_when_the_cursor_has_passed_it(directory: Path, ship: Callable[..., Shipper]) -> None:
    """`flush()` that returns too early loses the last events of a function that is frozen; too late, it holds it."""
    write_file(directory, event(0))
    goal = file_sizes(directory)
    assert not is_settled(directory, "sluice", goal)
    write_file(directory, event(1))
    assert not is_settled(directory, "sluice", goal)
    ship()
    wait_until(lambda: is_settled(directory, "sluice", goal))
    assert is_settled(directory, "sluice", {"a file that is gone": 10})
