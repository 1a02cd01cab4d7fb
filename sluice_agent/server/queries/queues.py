"""The list of queues: their latest depth, and what their jobs did in a window."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import Connection, func, select

from sluice_agent.model import Framework
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.window import Histogram, TimeRange, Window, window_of
from sluice_agent.server.record.ids import queue_id
from sluice_agent.server.record.measures import Measure
from sluice_agent.server.store.codes import FRAMEWORKS
from sluice_agent.server.store.schema import queue, rollup
from sluice_agent.server.timestamps import timestamp_of

_MINUTE = 60_000_000  # microseconds


class QueueSort(str, Enum):
    """Fields by which queues can be sorted."""

    NAME = "name"
    DEPTH = "depth"
    CONSUMERS = "consumers"
    THROUGHPUT = "throughput"
    FAILURE_RATE = "failureRate"


@dataclass(slots=True)
class _Counts:
    """What the jobs of one queue did in a window: runs that ended by interval, and waits by bucket."""

    succeeded: dict[int, int] = field(default_factory=dict)
    failed: dict[int, int] = field(default_factory=dict)
    waits: dict[int, int] = field(default_factory=dict)
    first_minute: int = 0


def list_queues(
    reader: Connection, connections: Mapping[str, int], time_range: TimeRange, framework: Framework | None, now: int
) -> list[dict[str, Any]]:
    """Return all queues of `connections` that a snapshot named, or jobs of the window."""
    window = window_of(time_range, now)
    counts = _counts(reader, connections.values(), window)
    rows = {
        (row.connection, row.queue): row
        for row in reader.execute(select(queue).where(queue.c.connection.in_(connections.values())))
    }
    texts = texts_of(reader, (label for _, label in (*rows, *counts)))
    ids = {number: id_ for id_, number in connections.items()}
    queues = []
    for key in dict.fromkeys((*rows, *counts)):
        row, name = rows.get(key), texts[key[1]]
        code = 0 if row is None else row.framework
        if framework is not None and FRAMEWORKS[code] is not framework:
            continue
        counted = counts.get(key, _Counts())
        first_seen = counted.first_minute * _MINUTE if row is None else row.first_seen
        queues.append(
            {
                "id": queue_id(ids[key[0]], name),
                "name": name,
                "framework": FRAMEWORKS[code].value,
                "connectionId": ids[key[0]],
                "depth": None if row is None else row.depth,
                "consumers": None if row is None else row.consumers,
                **_activity(counted, window, time_range),
                "extensions": {},
                "createdAt": timestamp_of(first_seen),
            }
        )
    return queues


def _activity(counts: _Counts, window: Window, time_range: TimeRange) -> dict[str, Any]:
    succeeded, failed = sum(counts.succeeded.values()), sum(counts.failed.values())
    ended = succeeded + failed
    bars = [
        {"start": start, "end": end, "succeeded": counts.succeeded.get(n, 0), "failed": counts.failed.get(n, 0)}
        for n, (start, end) in enumerate(window.bounds())
    ]
    return {
        "throughput": round(ended / window.seconds, 6) if ended else None,
        "avgLatencyMs": Histogram(counts.waits).mean,
        "failureRate": failed / ended if ended else 0.0,
        "healthBar": {"timeRange": time_range.value, "buckets": bars},
    }


def _counts(reader: Connection, connections: Collection[int], window: Window) -> dict[tuple[int, int], _Counts]:
    in_window = (
        rollup.c.connection.in_(connections),
        rollup.c.minutes == window.rollup_minutes,
        rollup.c.start >= window.starts.start,
        rollup.c.start < window.starts.stop,
        rollup.c.queue != 0,
    )
    columns = rollup.c.connection, rollup.c.queue, rollup.c.start, rollup.c.measure, rollup.c.bucket
    counts: dict[tuple[int, int], _Counts] = {}
    statement = select(*columns, func.sum(rollup.c.count)).where(*in_window).group_by(*columns)
    for connection, label, start, measure, bucket, count in reader.execute(statement):
        of_queue = counts.setdefault((connection, label), _Counts(first_minute=start))
        of_queue.first_minute = min(of_queue.first_minute, start)
        interval = window.index_of(start)
        if measure == Measure.STARTED:
            of_queue.waits[bucket] = of_queue.waits.get(bucket, 0) + int(count)
        elif measure == Measure.COMPLETED:
            of_queue.succeeded[interval] = of_queue.succeeded.get(interval, 0) + int(count)
        elif measure == Measure.FAILED:
            of_queue.failed[interval] = of_queue.failed.get(interval, 0) + int(count)
    return counts
