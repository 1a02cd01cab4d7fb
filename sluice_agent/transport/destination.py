"""The interface of a destination, as the shipper uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sluice_agent.transport.http import noop
from sluice_agent.transport.responses import Verdict
from sluice_agent.transport.selector import JobFilter


class Destination(Protocol):
    """An endpoint that events are sent to. Its cursor has its name; `job_filter` selects the jobs that it takes.

    A destination that does not deduplicate is sent one event at a time.
    """

    name: str
    deduplicates: bool
    last_response: str
    job_filter: JobFilter | None

    def send(self, lines: list[bytes], on_sending: Callable[[], None] = noop) -> Verdict:
        """Send the events in `lines`, and return the verdict. Raises nothing itself.

        `on_sending` is called just before the request is sent: until then nothing can have arrived.
        """

    def close(self) -> None:
        """Close the connection that `send` keeps open."""
