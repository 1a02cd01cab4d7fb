"""What carries claimed runs to those who execute them: a broker, or a pool of threads in this process."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from sluice_agent.jobs.engine.claim import Claim


class CarrierAwayError(Exception):
    """The broker can't be reached, or has no such queue. The message has the reason."""


class Carrier(Protocol):
    """The way of messages. Only the thread of the engine uses it."""

    outlives_process: bool
    """Whether messages are there after the end of this process."""

    @property
    def slots(self) -> int:
        """How many attempts are executed at a time; 0 while no worker takes messages."""

    def send(self, claims: Sequence[Claim]) -> Collection[str]:
        """Send a message for each claim, and return the ids of the runs whose message is confirmed.

        Raises `CarrierAwayError` if none was sent.
        """

    def watch(self, *, is_executing: bool) -> None:
        """Take note that there are runs: it must be known who takes messages. `is_executing`: some are executed now."""

    def is_empty(self) -> bool:
        """Return whether no message waits for a worker, as far as is known."""

    def start(self) -> None:
        """Deliver what an earlier process has left."""

    def close(self) -> None:
        """End what was started."""
