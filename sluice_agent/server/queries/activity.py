"""What happened over time: counts of jobs by interval, depth and load, with what is not known as a gap."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import BigInteger, Connection, Double, cast, func, select

from sluice_agent.server.queries.sums import PastSums, Summed, sums_of
from sluice_agent.server.queries.window import Histogram, Window
from sluice_agent.server.record.measures import MEASURES, Measure
from sluice_agent.server.store.schema import queue, rollup, series, worker, worker_rollup

RAN = (Measure.COMPLETED, Measure.FAILED, Measure.RETRIED)
"""The ends of runs whose durations count as those of a task."""

_MINUTE = 60_000_000  # microseconds
_REPORTERS = 100  # workers, and as many queues, whose samples show whether an interval is known


@dataclass(frozen=True, slots=True)
class Interval:
    """What jobs did between two moments. If it is not known, nothing has come of that time: no count is a zero then.
    One that is not over counts what has come so far."""

    start: int
    stop: int
    is_known: bool
    is_over: bool
    counts: Mapping[Measure, Mapping[int, int]] = field(default_factory=dict)
    """For each measure the jobs by bucket of duration."""

    def count(self, measure: Measure) -> int:
        """Return how many jobs were counted by `measure`."""
        return sum(self.counts.get(measure, {}).values())

    @property
    def queued(self) -> int:
        """The number of jobs that were published."""
        return self.count(Measure.QUEUED)

    @property
    def started(self) -> int:
        """The number of runs that began."""
        return self.count(Measure.STARTED)

    @property
    def completed(self) -> int:
        """The number of jobs that completed."""
        return self.count(Measure.COMPLETED)

    @property
    def failed(self) -> int:
        """The number of jobs that failed."""
        return self.count(Measure.FAILED)

    @property
    def waits(self) -> Histogram:
        """How long jobs waited until they started."""
        return Histogram(dict(self.counts.get(Measure.STARTED, {})))

    @property
    def runs(self) -> Histogram:
        """How long runs took that ended."""
        return histogram_of(self.counts, RAN)


class Sample(NamedTuple):
    """The largest values that a queue or a worker reported in an interval. `depth` is that of a queue, or the number
    of a worker's active jobs."""

    depth: int | None
    consumers: int | None
    load: float | None


NO_SAMPLE = Sample(None, None, None)


def histogram_of(counts: Mapping[Measure, Mapping[int, int]], measures: Collection[Measure]) -> Histogram:
    """Return the durations of all `measures` together."""
    together: dict[int, int] = {}
    for measure in measures:
        for bucket, count in counts.get(measure, {}).items():
            together[bucket] = together.get(bucket, 0) + count
    return Histogram(together)


def activity_of(
    reader: Connection,
    connection: int,
    window: Window,
    past_sums: PastSums,
    *,
    name: int | None = None,
    queue_label: int | None = None,
) -> list[Interval]:
    """Return what the jobs of a connection did in each interval of `window`: all, or those of one task or queue."""
    measures = (Measure.QUEUED, Measure.STARTED, *RAN, Measure.CANCELLED)
    summed = Summed(
        measures,
        (rollup.c.measure, rollup.c.bucket),
        by_interval=True,
        of_queues=queue_label is not None and name is None,
        longest=window.interval_rollup,
        names=None if name is None else (name,),
        queue=queue_label,
    )
    counts: dict[int, dict[Measure, dict[int, int]]] = {}
    for (measure, bucket, index), count in sums_of(reader, [connection], window, summed, past_sums).items():
        counts.setdefault(index, {}).setdefault(MEASURES[measure], {})[bucket] = count
    known = known_intervals(reader, connection, window, counts)
    return [
        Interval(start, stop, index in known, stop <= window.now, counts.get(index, {}))
        for index, (start, stop) in enumerate(window.moments())
    ]


def known_intervals(reader: Connection, connection: int, window: Window, counted: Collection[int]) -> set[int]:
    """Return the intervals of which anything has come: those `counted`, and others with any job, or a sample of any
    worker or queue. Of the rest it is not known whether jobs ran; but for the last one, if it is not over."""
    known = set(counted)
    labels = _reporters(reader, connection, window)
    length = window.interval_rollup
    for index, (start, stop) in enumerate(window.moments()):
        if index in known:
            continue
        of_interval = select(rollup.c.start).where(
            rollup.c.connection == connection,
            rollup.c.minutes == length,
            rollup.c.start >= start // _MINUTE,
            rollup.c.start < stop // _MINUTE,
        )
        sample = select(series.c.at).where(
            series.c.connection == connection, series.c.label.in_(labels), series.c.at >= start, series.c.at < stop
        )
        statements = (of_interval, sample) if labels else (of_interval,)
        if stop > window.now or any(reader.scalar(statement.limit(1)) is not None for statement in statements):
            known.add(index)
    return known


def samples_of(reader: Connection, connection: int, label: int, window: Window) -> list[Sample]:
    """Return what a queue or a worker reported in each interval of `window`."""
    interval = window.interval_of(series.c.at // _MINUTE).label("interval")
    largest = (
        cast(func.max(series.c.depth), BigInteger),
        cast(func.max(series.c.consumers), BigInteger),
        cast(func.max(series.c.load), Double),
    )
    first, last = window.start * _MINUTE, window.stop * _MINUTE
    statement = (
        select(interval, *largest)
        .where(series.c.connection == connection, series.c.label == label, series.c.at >= first, series.c.at < last)
        .group_by(interval)
    )
    samples = {row[0]: Sample(*row[1:]) for row in reader.execute(statement)}
    return [samples.get(index, NO_SAMPLE) for index in range(len(window.moments()))]


def ends_on_worker(reader: Connection, connection: int, label: int, window: Window) -> list[tuple[int, int]]:
    """Return how many jobs completed, and how many failed, on a worker in each interval of `window`."""
    interval = window.interval_of(worker_rollup.c.start).label("interval")
    statement = (
        select(
            interval,
            cast(func.sum(worker_rollup.c.completed), BigInteger),
            cast(func.sum(worker_rollup.c.failed), BigInteger),
        )
        .where(
            worker_rollup.c.connection == connection,
            worker_rollup.c.start.in_(range(window.start, window.stop)),
            worker_rollup.c.worker == label,
        )
        .group_by(interval)
    )
    ends = {index: (completed, failed) for index, completed, failed in reader.execute(statement)}
    return [ends.get(index, (0, 0)) for index in range(len(window.moments()))]


def _reporters(reader: Connection, connection: int, window: Window) -> Sequence[int]:
    """Return the labels of the workers and queues that may have samples in `window`, the latest of each."""
    labels: list[int] = []
    for table, label in ((worker, worker.c.worker), (queue, queue.c.queue)):
        statement = select(label).where(table.c.connection == connection, table.c.at >= window.start * _MINUTE)
        labels += reader.scalars(statement.order_by(table.c.at.desc()).limit(_REPORTERS))
    return labels
