"""The measures of jobs: what a job adds to the counts by minute, task and queue, and to those of its worker.

A run is counted when it is published, when it starts and when it ends. What a job has added is a function of its steps
alone: a late event or a correction takes away what no longer holds. All runs of a job are counted under its name and
its queue; an end under the worker of its run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from sluice_agent.server.record.history import History
from sluice_agent.server.record.summary import Facts, Summary, Walk
from sluice_agent.server.timestamps import milliseconds_between


class Measure(IntEnum):
    """What is counted of a run. The numbers are stored, and never change."""

    QUEUED = 1
    """It was published; its bucket is 0."""
    STARTED = 2
    """The bucket is of the time that it waited."""
    COMPLETED = 3
    """The bucket is of the time that it ran; so it is for the next three."""
    FAILED = 4
    RETRIED = 5
    CANCELLED = 6


class Count(NamedTuple):
    """One of a measure, in one minute since 1970. The bucket is 0 if the duration is unknown."""

    name: str
    queue: str | None
    minute: int
    measure: Measure
    bucket: int


class WorkerCount(NamedTuple):
    """One run that ended on a worker, completed or failed, in one minute since 1970."""

    worker: str
    minute: int
    measure: Measure


Counts: TypeAlias = Counter[Count | WorkerCount]

_MINUTE = 60_000_000_000  # nanoseconds
_BOUNDS = tuple(sorted({round(2 ** (half / 2)) for half in range(61)}))
_ENDS = {
    "completed": Measure.COMPLETED,
    "failed": Measure.FAILED,
    "retrying": Measure.RETRIED,
    "cancelled": Measure.CANCELLED,
}


def bucket_of(milliseconds: int) -> int:
    """Return the bucket of a duration, from 1: each is up to 1.5 times as long as the one before."""
    return bisect_right(_BOUNDS, milliseconds) + 1


def bounds_of(bucket: int) -> tuple[int, int | None]:
    """Return the milliseconds from which a bucket begins, and those before which it ends; None: it has no end."""
    return (_BOUNDS[bucket - 2] if bucket > 1 else 0), (_BOUNDS[bucket - 1] if bucket <= len(_BOUNDS) else None)


def counts_of(walk: Walk) -> Counts:
    """Return all that a job adds."""
    facts = walk.summary.facts
    return Counter(count for history in (*walk.past, walk.summary.history) for count in _counts_of_run(history, facts))


def changes(before: Summary | None, after: Summary) -> Counts:
    """Return what one step adds to the counts and, as negative numbers, takes away: `after` is `advanced` from `before`
    by it, None for a new job."""
    counts: Counts = Counter(_counts_of_run(after.history, after.facts))
    if before is not None and after.history.runs == before.history.runs:
        counts.subtract(_counts_of_run(before.history, before.facts))
    return counts


def _counts_of_run(history: History, facts: Facts) -> Iterator[Count | WorkerCount]:
    """Return what the last run of `history` adds. No two of them are equal."""
    name, queue = facts.name, facts.queue
    run, entry = history.run, history.entry
    if run.queued is not None:
        yield Count(name, queue, run.queued // _MINUTE, Measure.QUEUED, 0)
    if run.started is not None:
        yield Count(name, queue, run.started // _MINUTE, Measure.STARTED, _bucket_between(run.ready, run.started))
    if (measure := _ENDS.get(entry.state)) is not None:
        end = history.completed or entry.at
        yield Count(name, queue, end // _MINUTE, measure, _bucket_between(run.started, end))
        if run.worker is not None and measure in (Measure.COMPLETED, Measure.FAILED):
            yield WorkerCount(run.worker, end // _MINUTE, measure)


def _bucket_between(start: int | None, end: int) -> int:
    return 0 if start is None else bucket_of(milliseconds_between(start, end))
