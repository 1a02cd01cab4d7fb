"""What the shipper asks of a destination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sluice_agent.transport.http import noop
from sluice_agent.transport.responses import Verdict
from sluice_agent.transport.selector import JobFilter


class Destination(Protocol):
    """Where events go. Each destination has a cursor of its own, under its name; `job_filter` is what it is told.

    One that does not know duplicates is sent one event at a time.
    """

    name: str
    knows_duplicates: bool
    last_response: str
    job_filter: JobFilter | None

    def send(self, lines: list[bytes], on_leaving: Callable[[], None] = noop) -> Verdict:
        """Send the events in `lines`, and say what became of them. Never raises.

        `on_leaving` is called before the request leaves: until then nothing can have arrived.
        """

    def close(self) -> None:
        """Close what `send` keeps open."""
