"""Jobs under way that are probably stuck or lost: which those are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, and_, case, false, func, or_, select

from sluice_agent.model import JobState
from sluice_agent.server.queries.activity import RAN
from sluice_agent.server.queries.conditions import Condition, is_one_of, unindexed
from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.queries.sums import PastSums, Summed, sums_of
from sluice_agent.server.queries.under_way import longest_in_state
from sluice_agent.server.queries.window import Histogram, days_until
from sluice_agent.server.queries.workers import is_offline, process_began
from sluice_agent.server.store.schema import job, rollup, worker

SLOW_FACTOR = 3
"""An active job is slow if it runs for longer than so many times the 99th percentile of its task."""

SLOW_AFTER = 60_000_000
"""Microseconds within which no job is slow, whatever its task."""

RUNS_KNOWN = 20
"""The runs of a task, today and in the seven days before, from which it is known how long its jobs take."""

LATE_AFTER = 60_000_000
"""Microseconds after its ETA, or its expires, by which a job has left its state if a worker has it."""

_DAYS_KNOWN = 7  # before today
_TASKS = 500  # with the longest running jobs, that are compared with their percentiles


STATES: Mapping[JobProblem, frozenset[JobState]] = {
    JobProblem.SLOW: frozenset({JobState.ACTIVE}),
    JobProblem.LOST: frozenset({JobState.ACTIVE}),
    JobProblem.EXPIRED: frozenset({JobState.QUEUED}),
    JobProblem.OVERDUE: frozenset({JobState.SCHEDULED, JobState.RETRYING}),
}
"""The states of jobs that can have each problem."""


def running_with(reader: Connection, connections: Iterable[int], problem: JobProblem, now: int) -> Condition:
    """Return the condition that an active job of `connections` is slow, or lost, at a moment. No index serves it: few
    jobs are active."""
    find = _of_slow_tasks if problem is JobProblem.SLOW else _on_gone_workers
    return or_(false(), *(and_(job.c.connection == number, find(reader, number, now)) for number in connections))


def slow_after(reader: Connection, connection: int, now: int, names: Iterable[int]) -> dict[int, int]:
    """Return the microseconds after which a job of each of the tasks `names` is slow. Tasks of which too few runs are
    known are left out. The counts of all tasks are read: they are kept, as are those of other tasks that run later."""
    summed = Summed(RAN, (rollup.c.name, rollup.c.bucket))
    counts: dict[int, dict[int, int]] = {name: {} for name in names}
    window = days_until(now, _DAYS_KNOWN)
    past_sums = _past_sums.setdefault(reader.engine, PastSums())
    for (name, bucket), count in sums_of(reader, [connection], window, summed, past_sums).items():
        if name in counts:
            counts[name][bucket] = count
    runs = {name: Histogram(of_task) for name, of_task in counts.items()}
    return {
        name: max(SLOW_AFTER, SLOW_FACTOR * 1_000 * (histogram.percentiles([0.99])[0] or 0))
        for name, histogram in runs.items()
        if histogram.known >= RUNS_KNOWN
    }


_past_sums: WeakKeyDictionary[Engine, PastSums] = WeakKeyDictionary()
"""What was read of the days before today, of each database."""


def _of_slow_tasks(reader: Connection, connection: int, now: int) -> Condition:
    looked_at = longest_in_state(connection, JobState.ACTIVE, job.c.started_at, job.c.name)
    oldest = func.min(looked_at.c.at)
    statement = select(looked_at.c.label, oldest).group_by(looked_at.c.label).order_by(oldest).limit(_TASKS)
    running_since: Mapping[int, int] = {row[0]: row[1] for row in reader.execute(statement).all()}
    suspects = [name for name, since in running_since.items() if since < now - SLOW_AFTER]
    limits = slow_after(reader, connection, now, suspects) if suspects else {}
    names_by_limit: dict[int, list[int]] = {}
    for name, limit in limits.items():
        if running_since[name] < now - limit:
            names_by_limit.setdefault(limit, []).append(name)
    if not names_by_limit:
        return false()
    starts = (
        (is_one_of(job.c.name, names), now - limit) for limit, names in names_by_limit.items()
    )  # most have one limit
    return unindexed(job.c.started_at) < case(*starts)


def _on_gone_workers(reader: Connection, connection: int, now: int) -> Condition:
    looked_at = longest_in_state(connection, JobState.ACTIVE, job.c.started_at, job.c.worker)
    oldest = select(looked_at.c.label, func.min(looked_at.c.at)).group_by(looked_at.c.label)
    running_since: Mapping[int, int] = {row[0]: row[1] for row in reader.execute(oldest).all()}
    of_active = select(looked_at.c.label).distinct()
    statement = select(worker).where(worker.c.connection == connection, worker.c.worker.in_(of_active))
    gone: list[int] = []
    restarts: dict[int, int] = {}
    for row in reader.execute(statement).all():
        began = process_began(row)
        if is_offline(reader, row, now):
            gone.append(row.worker)
        elif began is not None and running_since[row.worker] < began:
            restarts[row.worker] = began
    is_gone = unindexed(job.c.worker).in_(gone)
    if not restarts:
        return is_gone
    return or_(is_gone, unindexed(job.c.started_at) < case(restarts, value=job.c.worker))
