"""How many jobs are in each state, as pages show it: the states that need attention first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sluice_agent.server.queries.canvas import STATE_ORDER, States


class StateCounts(NamedTuple):
    """The states that occur, each with its number of jobs, and the number of all."""

    states: Sequence[tuple[str, int]]
    total: int


def counts_of(states: States) -> StateCounts:
    """Return the counts of `states`."""
    return StateCounts([(state.value, states[state]) for state in STATE_ORDER if states[state]], states.total())
