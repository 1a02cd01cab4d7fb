"""Which runs are over though no event said so: a worker's heartbeats say how many tasks it runs, and not which."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_agent.monitor.memory import Run


@dataclass(slots=True, eq=False)
class Headcount:
    """A worker said at a moment that fewer tasks run than were heard of: of `among`, so many are `active`.

    What ends later did run then. When that accounts for all that were active, the others had ended before.
    """

    at: float
    active: int
    among: dict[str, Run]

    def ended(self, external_id: str, run: Run, at: float) -> None:
        """An event says that `run` ended at this time."""
        if self.among.get(external_id) is run:
            del self.among[external_id]
            self.active -= at > self.at

    @property
    def is_settled(self) -> bool:
        """Whether it is known of each what became of it, as far as it can be."""
        return self.active <= 0 or len(self.among) <= self.active

    @property
    def over(self) -> dict[str, Run]:
        """Those that had ended without a word."""
        return self.among if self.active <= 0 else {}
