"""What a rule measures in the database now, and whether it is above its limit."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from sqlalchemy import Connection, select

from sluice_agent.server.alerts.rules import Depth, FailureShare, Measure, OldestWait, Silence, percent, span
from sluice_agent.server.queries.labels import find_labels
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.queries.tasks import ends_by_task
from sluice_agent.server.queries.under_way import Waiting, waiting_jobs
from sluice_agent.server.queries.window import Window
from sluice_agent.server.store.schema import LabelKind, queue, worker

_SECOND = 1_000_000  # in microseconds, as all moments
_MINUTE = 60 * _SECOND
_FRESH = 5 * _MINUTE  # age of a snapshot from which the depth of a queue is not known any more


class Reading(NamedTuple):
    """What was measured. `is_above` and `value` are None if it is not known; `text` is for people."""

    is_above: bool | None
    value: float | None
    text: str


class Scene:
    """The state of one connection, by its number, at the moment `now`."""

    def __init__(self, reader: Connection, connection: int, now: int, past_sums: PastSums) -> None:
        self._reader = reader
        self._connection = connection
        self._now = now
        self._past_sums = past_sums

    def read(self, measure: Measure) -> Reading:
        """Return what `measure` is now."""
        if isinstance(measure, FailureShare):
            return self._failure_share(measure)
        if isinstance(measure, Depth):
            return self._depth(measure)
        if isinstance(measure, OldestWait):
            return self._oldest_wait(measure)
        return self._silence(measure)

    def _failure_share(self, measure: FailureShare) -> Reading:
        start, stop = (self._now - measure.over * _SECOND) // _MINUTE, self._now // _MINUTE + 1
        window = Window("", start, stop, 1, self._now)
        ends = ends_by_task(self._reader, self._connection, window, self._past_sums, [measure.task]).get(measure.task)
        failed = sum(ends.failed) if ends else 0
        ended = failed + sum(ends.completed) if ends else 0
        if ended < measure.at_least:
            jobs = "job of it has" if ended == 1 else "jobs of it have"
            return Reading(False, None, f"{ended or 'no'} {jobs} ended in {span(measure.over)}")
        share = failed / ended
        text = f"{percent(share)} of {ended:,} jobs of {measure.task} failed in {span(measure.over)}"
        return Reading(share > measure.above, share, text)

    def _depth(self, measure: Depth) -> Reading:
        labels = find_labels(self._reader, LabelKind.QUEUE, [measure.queue])
        statement = select(queue.c.depth, queue.c.at).where(
            queue.c.connection == self._connection, queue.c.queue.in_(labels), queue.c.depth.is_not(None)
        )
        row = self._reader.execute(statement).one_or_none()
        if row is None:
            return Reading(None, None, f"the depth of the queue {measure.queue} was never reported")
        if row.at < self._now - _FRESH:
            age = span((self._now - row.at) / _SECOND)
            return Reading(None, None, f"the depth of the queue {measure.queue} was last reported {age} ago")
        jobs = "job is" if row.depth == 1 else "jobs are"
        return Reading(row.depth > measure.above, row.depth, f"{row.depth:,} {jobs} in the queue {measure.queue}")

    def _oldest_wait(self, measure: OldestWait) -> Reading:
        labels = find_labels(self._reader, LabelKind.QUEUE, [measure.queue])
        waiting = self._waiting
        since = min((waiting.by_queue[label][1] for label in labels if label in waiting.by_queue), default=None)
        if since is not None:
            wait = max(0, self._now - since) / _SECOND
            return Reading(
                wait > measure.above, wait, f"the oldest job of the queue {measure.queue} waits for {span(wait)}"
            )
        longest = 0 if waiting.is_complete or waiting.last is None else max(0, self._now - waiting.last) / _SECOND
        if longest > measure.above:
            return Reading(None, None, f"too many jobs wait to find the oldest of the queue {measure.queue}")
        return Reading(False, None, f"no job of the queue {measure.queue} waits for long")

    @cached_property
    def _waiting(self) -> Waiting:
        return waiting_jobs(self._reader, self._connection)

    def _silence(self, measure: Silence) -> Reading:
        labels = find_labels(self._reader, LabelKind.WORKER, [measure.worker])
        statement = select(worker.c.at).where(worker.c.connection == self._connection, worker.c.worker.in_(labels))
        at = self._reader.scalar(statement)
        if at is None:
            return Reading(None, None, f"no event of a worker {measure.worker} is known")
        silence = max(0, self._now - at) / _SECOND
        text = f"the last event of the worker {measure.worker} came {span(silence)} ago"
        return Reading(silence > measure.above, silence, text)
