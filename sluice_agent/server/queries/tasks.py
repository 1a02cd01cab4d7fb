"""Statistics of tasks by name, from rollups."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection

from sluice_agent.server.queries.activity import RAN, histogram_of
from sluice_agent.server.queries.labels import find_labels, texts_of
from sluice_agent.server.queries.sums import PastSums, Summed, sums_of
from sluice_agent.server.queries.window import Histogram, Window
from sluice_agent.server.record.measures import MEASURES, Measure
from sluice_agent.server.store.schema import LabelKind, rollup

_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Ends(NamedTuple):
    """How many jobs of a task completed, and how many failed, in each interval of a window."""

    completed: list[int]
    failed: list[int]


class QueueOfTask(NamedTuple):
    """What jobs of one task did in one queue (None: unknown): runs that started, completed and failed, and how long
    they waited and ran."""

    queue: str | None
    started: int
    completed: int
    failed: int
    waits: Histogram
    runs: Histogram

    @property
    def failure_rate(self) -> float | None:
        """The share of jobs that failed, of those that ended; None if none has."""
        ended = self.completed + self.failed
        return self.failed / ended if ended else None


def list_tasks(
    reader: Connection, connections: Collection[int], window: Window, past_sums: PastSums
) -> list[dict[str, Any]]:
    """Return the statistics of all tasks of `connections` that had runs in `window`, by name."""
    histograms: defaultdict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    summed = Summed(tuple(Measure), (rollup.c.name, rollup.c.measure, rollup.c.bucket))
    for (name, measure, bucket), count in sums_of(reader, connections, window, summed, past_sums).items():
        histograms[name, measure][bucket] = count
    counts: defaultdict[int, dict[Measure, dict[int, int]]] = defaultdict(dict)
    for (name, measure), histogram in histograms.items():
        counts[name][MEASURES[measure]] = histogram
    texts = texts_of(reader, counts)
    return sorted((_statistics(texts[name], by, window) for name, by in counts.items()), key=lambda task: task["name"])


def _statistics(name: str, counts: dict[Measure, dict[int, int]], window: Window) -> dict[str, Any]:
    completed, failed = (sum(counts.get(measure, {}).values()) for measure in (Measure.COMPLETED, Measure.FAILED))
    waited = counts.get(Measure.STARTED, {})
    ended = completed + failed
    return {
        "name": name,
        "started": sum(waited.values()),
        "completed": completed,
        "failed": failed,
        "ratePerMinute": round(ended * 60 / window.seconds, 3),
        "failureRate": failed / ended if ended else 0.0,
        "waitMs": _percentiles(Histogram(waited)),
        "runMs": _percentiles(histogram_of(counts, RAN)),
    }


def ends_by_task(
    reader: Connection,
    connection: int,
    window: Window,
    past_sums: PastSums,
    names: Iterable[str] | None = None,
) -> dict[str, Ends]:
    """Return the ends of jobs of each task, or of those `names`, by interval of `window`."""
    labels = None if names is None else tuple(find_labels(reader, LabelKind.NAME, names))
    summed = Summed(
        (Measure.COMPLETED, Measure.FAILED),
        (rollup.c.name, rollup.c.measure),
        by_interval=True,
        longest=window.interval_rollup,
        names=labels,
    )
    intervals = len(window.moments())
    ends: dict[int, Ends] = {}
    for (name, measure, index), count in sums_of(reader, [connection], window, summed, past_sums).items():
        of_task = ends.setdefault(name, Ends([0] * intervals, [0] * intervals))
        (of_task.failed if measure == Measure.FAILED else of_task.completed)[index] = count
    texts = texts_of(reader, ends)
    return {texts[name]: of_task for name, of_task in ends.items()}


def queues_of_task(
    reader: Connection, connection: int, name: int, window: Window, past_sums: PastSums
) -> list[QueueOfTask]:
    """Return what the jobs of a task, by its label, did in each queue, the queue with most runs first."""
    summed = Summed(tuple(Measure), (rollup.c.queue, rollup.c.measure, rollup.c.bucket), names=(name,))
    counts: dict[int, dict[Measure, dict[int, int]]] = {}
    for (queue, measure, bucket), count in sums_of(reader, [connection], window, summed, past_sums).items():
        counts.setdefault(queue, {}).setdefault(MEASURES[measure], {})[bucket] = count
    texts = texts_of(reader, counts)
    queues = [
        QueueOfTask(
            texts.get(queue),
            sum(by.get(Measure.STARTED, {}).values()),
            sum(by.get(Measure.COMPLETED, {}).values()),
            sum(by.get(Measure.FAILED, {}).values()),
            Histogram(by.get(Measure.STARTED, {})),
            histogram_of(by, RAN),
        )
        for queue, by in counts.items()
    ]
    return sorted(queues, key=lambda queue: (-queue.started, queue.queue or ""))


def _percentiles(histogram: Histogram) -> dict[str, int | None]:
    return dict(zip(_PERCENTILES, histogram.percentiles(tuple(_PERCENTILES.values())), strict=True))
