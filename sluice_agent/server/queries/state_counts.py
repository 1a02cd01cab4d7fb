"""How many jobs of a list are in each state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection, func, select

from sluice_agent.model import JobState
from sluice_agent.server.queries.base import bases_of
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.selection import select_jobs
from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.schema import job

_MOST = 5_000  # jobs that are looked at


def counts_by_state(
    reader: Connection, connections: Mapping[str, int], wanted: JobFilter, now: int
) -> dict[JobState, int] | None:
    """Return the number of jobs of `connections` in each state, of those that `wanted` selects at a moment.

    The states that it names do not count, and those without a job are left out. None: so many jobs would have to be
    looked at that they are not counted.
    """
    selection = select_jobs(reader, connections, replace(wanted, states=()), now)
    counts: Counter[int] = Counter()
    if selection.is_exactly_counted:
        for states in selection.states.values():
            counts.update(states)
    else:
        _, base = bases_of(reader, selection)
        if base.size > _MOST:
            return None
        counted = select(job.c.state, func.count()).group_by(job.c.state)
        for ranges in base.ranges:
            statement = counted.where(*ranges.conditions, *base.residual)
            for parameters in ranges.parameters:
                for state, count in reader.execute(statement, parameters):
                    counts[state] += count
    return {JOB_STATES[code]: count for code, count in counts.items() if count}
