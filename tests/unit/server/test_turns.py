"""The order in which threads write to one file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest

from sluice_agent.server.store.turns import Turns
from tests.support.waiting import wait_until


def _order(kinds: str) -> str:
    """Return the order in which threads have their turns that wait in the order of `kinds`: b is bulk, o another."""
    turns, order, may_end = Turns(), [], Event()

    def write(kind: str) -> None:
        with turns.take(bulk=kind == "b"):
            order.append(kind)

    def hold() -> None:
        with turns.take():
            order.append("")
            may_end.wait(30)

    with ThreadPoolExecutor(len(kinds) + 1) as threads:
        threads.submit(hold)
        wait_until(lambda: bool(order))
        for count, kind in enumerate(kinds, 1):
            threads.submit(write, kind)
            wait_until(lambda count=count: turns.waiting == count)  # type: ignore[misc]
        may_end.set()
    return "".join(order)


def test_a_short_transaction_waits_for_no_bulk_one_that_has_not_begun() -> None:
    """A run that is due would otherwise start only after all that is triggered in bulk meanwhile."""
    assert _order("bbobo") == "oobbb"


def test_bulk_transactions_have_their_turns_however_many_others_there_are() -> None:
    """Clients that trigger in bulk, or send events, would otherwise never be answered under load."""
    assert _order("bb" + 20 * "o") == 8 * "o" + "b" + 8 * "o" + "b" + 4 * "o"


def test_a_transaction_that_fails_passes_its_turn_on() -> None:
    """Nothing could be written otherwise until the server is restarted."""
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.take():
        _ = 1 / 0
    following = Thread(target=turns.take().__enter__, daemon=True)
    following.start()
    following.join(10)
    assert not following.is_alive()
