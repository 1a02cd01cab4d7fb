"""How many jobs are in each state, as pages show it: the states that need attention first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sluice_agent.server.queries.canvas import STATE_ORDER, States

_NARROWEST = 1.0  # percent of a bar


class StateCounts(NamedTuple):
    """The states that occur, each with its number of jobs, and the number of all."""

    states: Sequence[tuple[str, int]]
    total: int

    @property
    def parts(self) -> list[tuple[str, float, float]]:
        """Each state with the place and the width of its part of a bar, in percent: one of few jobs is seen as well."""
        widths = [max(_NARROWEST, 100 * jobs / self.total) for _, jobs in self.states]
        whole = sum(widths)
        parts, x = [], 0.0
        for (state, _), width in zip(self.states, widths, strict=True):
            parts.append((state, round(x, 2), round(100 * width / whole, 2)))
            x += 100 * width / whole
        return parts


def counts_of(states: States) -> StateCounts:
    """Return the counts of `states`."""
    return StateCounts([(state.value, states[state]) for state in STATE_ORDER if states[state]], states.total())
