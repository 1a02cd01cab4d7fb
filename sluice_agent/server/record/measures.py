"""The measures of jobs: what a job adds to the counts by minute, task and queue, and to those of its worker.

A run is counted when it is published, when it starts and when it ends. What a job has added is a function of its steps
alone: a late event or a correction takes away what no longer holds. All runs of a job are counted under its name and
its queue; an end under the worker of its run.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from enum import IntEnum
from typing import TypeAlias

from msgspec import Struct

from sluice_agent.server.record.history import History, Run
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


MEASURES: Mapping[int, Measure] = {measure.value: measure for measure in Measure}
"""The measures by their numbers."""


class Count(Struct, frozen=True, gc=False):
    """One of a measure, in one minute since 1970. The bucket is 0 if the duration is unknown."""

    name: str
    queue: str | None
    minute: int
    measure: Measure
    bucket: int


class WorkerCount(Struct, frozen=True, gc=False):
    """One run that ended on a worker, completed or failed, in one minute since 1970."""

    worker: str
    minute: int
    measure: Measure


Counts: TypeAlias = dict[Count | WorkerCount, int]

_MINUTE = 60_000_000_000  # nanoseconds
_BOUNDS = tuple(sorted({round(2 ** (half / 2)) for half in range(61)}))
_ENDS = {
    "completed": Measure.COMPLETED,
    "failed": Measure.FAILED,
    "retrying": Measure.RETRIED,
    "cancelled": Measure.CANCELLED,
}
_WORKER_ENDS = (Measure.COMPLETED, Measure.FAILED)


def bucket_of(milliseconds: int) -> int:
    """Return the bucket of a duration, from 1: each is up to 1.5 times as long as the one before."""
    return bisect_right(_BOUNDS, milliseconds) + 1


def bounds_of(bucket: int) -> tuple[int, int | None]:
    """Return the milliseconds from which a bucket begins, and those before which it ends; None: it has no end."""
    return (_BOUNDS[bucket - 2] if bucket > 1 else 0), (_BOUNDS[bucket - 1] if bucket <= len(_BOUNDS) else None)


def changes(before: Summary | None, after: Summary) -> Counts:
    """Return what one step adds to the counts and, as negative numbers, takes away: `after` is `advanced` from `before`
    by it, None for a new job."""
    if before is None or after.history.runs != before.history.runs:
        return dict.fromkeys(_counts_of_run(after.history, after.facts), 1)
    old, new = before.history.run, after.history.run
    has_same_name = before.facts is after.facts or (
        before.facts.name == after.facts.name and before.facts.queue == after.facts.queue
    )
    removed: list[Count | WorkerCount] = []
    added: list[Count | WorkerCount] = []
    if not has_same_name or old.queued != new.queued:
        removed += _wait_of_run(old, before.facts)
        added += _wait_of_run(new, after.facts)
    if not has_same_name or old.started != new.started or old.ready != new.ready:
        removed += _start_of_run(old, before.facts)
        added += _start_of_run(new, after.facts)
    removed += _end_of_run(before.history, before.facts)
    added += _end_of_run(after.history, after.facts)
    return _difference(removed, added) if removed else dict.fromkeys(added, 1)


def changes_of_walk(before: Walk | None, after: Walk) -> Counts:
    """Return what changes from a walk through some steps of a job to one through others. None: the job is new."""
    counts = Counter(_counts_of_walk(after))
    counts.subtract(_counts_of_walk(before) if before else ())
    return {count: number for count, number in counts.items() if number}


def _counts_of_walk(walk: Walk) -> list[Count | WorkerCount]:
    facts = walk.summary.facts
    return [count for history in (*walk.past, walk.summary.history) for count in _counts_of_run(history, facts)]


def _counts_of_run(history: History, facts: Facts) -> list[Count | WorkerCount]:
    """Return what the last run of `history` adds."""
    return [*_wait_of_run(history.run, facts), *_start_of_run(history.run, facts), *_end_of_run(history, facts)]


def _wait_of_run(run: Run, facts: Facts) -> list[Count | WorkerCount]:
    """Return what the beginning of the wait adds, if it is counted with this run."""
    if run.queued is None:
        return []
    return [Count(facts.name, facts.queue, run.queued // _MINUTE, Measure.QUEUED, 0)]


def _start_of_run(run: Run, facts: Facts) -> list[Count | WorkerCount]:
    """Return what the start of the run adds, if it has started."""
    if run.started is None:
        return []
    waited = _bucket_between(run.ready, run.started)
    return [Count(facts.name, facts.queue, run.started // _MINUTE, Measure.STARTED, waited)]


def _end_of_run(history: History, facts: Facts) -> list[Count | WorkerCount]:
    """Return what the end of the last run adds, if it has ended."""
    measure = _ENDS.get(history.entry.state)
    if measure is None:
        return []
    run, end = history.run, history.completed
    if end is None:  # it is retried
        end = history.entry.at
    minute = end // _MINUTE
    count = Count(facts.name, facts.queue, minute, measure, _bucket_between(run.started, end))
    if run.worker is None or measure not in _WORKER_ENDS:
        return [count]
    return [count, WorkerCount(run.worker, minute, measure)]


def _difference(removed: list[Count | WorkerCount], added: list[Count | WorkerCount]) -> Counts:
    """Return what changes within one run, of which no two counts are equal."""
    counts = dict.fromkeys(added, 1)
    for count in removed:
        if counts.pop(count, None) is None:
            counts[count] = -1
    return counts


def _bucket_between(start: int | None, end: int) -> int:
    return 0 if start is None else bucket_of(milliseconds_between(start, end))
