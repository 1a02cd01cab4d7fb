"""What is known of a queue, and who can tell it: one gauge for each kind of broker."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Depth:
    """One queue at one moment.

    `ready` jobs wait in it for a worker. `consumers` take from it, and `unacked` jobs are with them; None where nobody
    can tell.
    """

    ready: int
    consumers: int | None = None
    unacked: int | None = None


class Gauge(Protocol):
    """Asks one kind of broker, over a connection that is the sampler's own. Raises what the connection raises."""

    def depths(self, names: Collection[str], taken_from: Collection[str] | None = None) -> dict[str, Depth]:
        """Those of `names` that exist, and what the broker has found to be theirs as well: see each gauge.

        Workers take from `taken_from`, so those exist; None: nobody has looked who takes from what.
        """
        ...
