"""A lease: one of several processes has it, and another one takes over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from sluice_agent.server.store import Store
from sluice_agent.server.store.lease import Lease

SECOND = 1_000_000


class Clock:
    """Microseconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that the tests share. By its clock no lease of theirs has ended long ago: it would delete it."""
    before_all = datetime(1969, 1, 1, tzinfo=timezone.utc)
    store = Store(tmp_path_factory.mktemp("lease") / "s.db", now=lambda: before_all)
    yield store
    store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(store: Store, clock: Clock, tmp_path: Path) -> Callable[[str], Lease]:
    """Return the test's lease for a holder."""
    return lambda holder: Lease(store.writing, tmp_path.name, holder, 60, clock)


def test_one_has_it_until_it_ends(lease: Callable[[str], Lease], clock: Clock) -> None:
    """After a crash nobody would delete old jobs any more, or before it everybody would."""
    first, second = lease("first"), lease("second")
    assert (first.is_held(), second.is_held()) == (True, False)
    clock.now = 59 * SECOND
    assert not second.is_held()
    clock.now = 90 * SECOND  # the first has not extended it
    assert second.is_held()
    assert not first.is_held()


def test_it_is_extended_while_it_is_used(lease: Callable[[str], Lease], clock: Clock) -> None:
    """The work would otherwise change its process each minute, or be done by two."""
    first, second = lease("first"), lease("second")
    for minute in [*range(10), -1_440]:  # at last the clock is set back by a day
        clock.now = minute * 45 * SECOND
        assert (first.is_held(), second.is_held()) == (True, False)
    clock.now += 90 * SECOND  # the first has extended it by the clock of now
    assert second.is_held()


def test_it_is_released(lease: Callable[[str], Lease], clock: Clock) -> None:
    """A server that is restarted would otherwise leave the work undone for a minute."""
    first, second = lease("first"), lease("second")
    assert first.is_held()
    first.release()
    assert second.is_held()
    second.release()
    first.release()  # does nothing: it is not held
    assert lease("third").is_held()
