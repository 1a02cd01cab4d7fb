"""The cursor's records of events that may have been taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sluice_agent.transport.delivery.responses import TryAgain, Unanswered, Verdict
from sluice_agent.transport.delivery.unconfirmed import at_most_twice
from sluice_agent.transport.journal.cursor import Cursor
from sluice_agent.transport.journal.selector import JobFilter


class Silent:
    """A destination that takes every event, and never answers."""

    name = "silent"
    deduplicates = False
    last_response = ""
    job_filter: JobFilter | None = None

    def send(self, lines: list[bytes], on_sending: Callable[[], None] = lambda: None) -> Verdict:
        """Send the event, and get no answer."""
        on_sending()
        return Unanswered("lost")

    def close(self) -> None:
        """Nothing is open."""


def test_the_records_of_unsettled_events_do_not_pile_up() -> None:
    """An event that is evicted before its answer is never sent again: its record would stay for ever."""
    cursor = Cursor(Path("cursor-silent.v1.json"))
    saved: list[int] = []
    for number in range(100):
        lines = [b"%d" % number]
        assert isinstance(
            at_most_twice(Silent(), lines, cursor, lambda: saved.append(len(cursor.unconfirmed))), TryAgain
        )
    assert len(saved) == 100
    assert max(saved) <= 16
    assert isinstance(at_most_twice(Silent(), [b"99"], cursor, lambda: None), Unanswered), "the newest are known"
