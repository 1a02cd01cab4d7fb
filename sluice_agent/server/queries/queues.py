"""The list of queues: their latest depth, and what their jobs did in a window."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, CursorResult, cast, func, select

from sluice_agent.model import Framework
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.window import HOUR, Histogram, TimeRange, Window, window_of
from sluice_agent.server.record.ids import queue_id
from sluice_agent.server.record.measures import Measure
from sluice_agent.server.store.codes import FRAMEWORKS
from sluice_agent.server.store.schema import ALL_NAMES, queue, rollup
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
        first_seen = window.starts.start * _MINUTE if row is None else row.first_seen
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
    counts: dict[tuple[int, int], _Counts] = {}
    by_interval = rollup.c.connection, rollup.c.queue, rollup.c.measure, window.interval_of(rollup.c.start)
    ends = rollup.c.measure.in_([Measure.COMPLETED, Measure.FAILED])
    for connection, label, measure, interval, count in _sums(reader, connections, window, ends, *by_interval):
        of_queue = counts.setdefault((connection, label), _Counts())
        (of_queue.failed if measure == Measure.FAILED else of_queue.succeeded)[interval] = count
    by_bucket = rollup.c.connection, rollup.c.queue, rollup.c.bucket
    started = rollup.c.measure == Measure.STARTED
    for connection, label, bucket, count in _sums(reader, connections, window, started, *by_bucket):
        counts.setdefault((connection, label), _Counts()).waits[bucket] = count
    return counts


def _sums(
    reader: Connection,
    connections: Collection[int],
    window: Window,
    condition: ColumnElement[bool],
    *columns: ColumnElement[Any],
) -> CursorResult[Any]:
    """Return the counts of queues in `window`, summed by `columns`."""
    if window.rollup_minutes == HOUR:
        hours = range(window.starts.start, window.starts.stop, HOUR)
        in_window = rollup.c.start.in_(hours) & (rollup.c.name == ALL_NAMES)
    else:
        in_window = (rollup.c.start >= window.starts.start) & (rollup.c.start < window.starts.stop)
    total = cast(func.sum(rollup.c.count), BigInteger)
    statement = select(*columns, total).where(
        rollup.c.connection.in_(connections),
        rollup.c.minutes == window.rollup_minutes,
        in_window,
        rollup.c.queue != 0,
        condition,
    )
    return reader.execute(statement.group_by(*columns).having(total > 0))
