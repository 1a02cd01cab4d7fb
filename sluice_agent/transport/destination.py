"""What the shipper asks of a destination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sluice_agent.transport.answers import Verdict
from sluice_agent.transport.audience import Choice
from sluice_agent.transport.http import nothing


class Destination(Protocol):
    """Where events go. Each destination has a cursor of its own, under its name; `choice` is what it is told.

    One that does not know duplicates is sent one event at a time.
    """

    name: str
    knows_duplicates: bool
    last_answer: str
    choice: Choice | None

    def send(self, lines: list[bytes], on_leaving: Callable[[], None] = nothing) -> Verdict:
        """Send the events in `lines`, and say what became of them. Never raises.

        `on_leaving` is called before the request leaves: until then nothing can have arrived.
        """

    def close(self) -> None:
        """Close what `send` keeps open."""
