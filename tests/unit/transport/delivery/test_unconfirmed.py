"""The cursor's records of events that may have been taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sluice_agent.transport.delivery.responses import TryAgain, Unanswered, Verdict
from sluice_agent.transport.delivery.unconfirmed import AtMostTwice
from sluice_agent.transport.journal.cursor import Cursor


class Silent:
    """A destination that takes every event, and never answers."""

    def __init__(self, on_sending: Callable[[], None]) -> None:
        self._on_sending = on_sending

    def send(self, lines: list[bytes]) -> Verdict:
        """Send the event, and get no answer."""
        self._on_sending()
        return Unanswered("lost")

    def close(self) -> None:
        """Nothing is open."""


def test_the_records_of_unsettled_events_do_not_pile_up() -> None:
    """An event that is evicted before its answer is never sent again: its record would stay for ever."""
    cursor = Cursor(Path("cursor-silent.v1.json"))
    saved: list[int] = []
    client = AtMostTwice("silent", Silent, lambda: cursor, lambda: saved.append(len(cursor.unconfirmed)))
    for number in range(100):
        assert isinstance(client.send([b"%d" % number]), TryAgain)
    assert len(saved) == 100
    assert max(saved) <= 16
    assert isinstance(client.send([b"99"]), Unanswered), "the newest are known"
