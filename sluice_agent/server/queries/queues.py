"""The list of queues: their latest depth, and what their jobs did in a window."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import Connection, select

from sluice_agent.model import Framework
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.sums import PastSums, Summed, sums_of
from sluice_agent.server.queries.window import Histogram, Window
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


def list_queues(
    reader: Connection, connections: Mapping[str, int], window: Window, framework: Framework | None, past_sums: PastSums
) -> list[dict[str, Any]]:
    """Return all queues of `connections` that a snapshot named, or jobs of the window."""
    counts = _counts(reader, connections.values(), window, past_sums)
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
        first_seen = window.start * _MINUTE if row is None else row.first_seen
        queues.append(
            {
                "id": queue_id(ids[key[0]], name),
                "name": name,
                "framework": FRAMEWORKS[code].value,
                "connectionId": ids[key[0]],
                "depth": None if row is None else row.depth,
                "consumers": None if row is None else row.consumers,
                **_activity(counted, window),
                "extensions": {},
                "createdAt": timestamp_of(first_seen),
            }
        )
    return queues


def _activity(counts: _Counts, window: Window) -> dict[str, Any]:
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
        "healthBar": {"timeRange": window.name, "buckets": bars},
    }


def _counts(
    reader: Connection, connections: Collection[int], window: Window, past_sums: PastSums
) -> dict[tuple[int, int], _Counts]:
    counts: dict[tuple[int, int], _Counts] = {}
    ends = Summed(
        (Measure.COMPLETED, Measure.FAILED),
        (rollup.c.queue, rollup.c.measure),
        by_connection=True,
        by_interval=True,
        of_queues=True,
        longest=window.interval_rollup,
    )
    for (*key, measure, interval), count in sums_of(reader, connections, window, ends, past_sums).items():
        of_queue = counts.setdefault((key[0], key[1]), _Counts())
        (of_queue.failed if measure == Measure.FAILED else of_queue.succeeded)[interval] = count
    waits = Summed((Measure.STARTED,), (rollup.c.queue, rollup.c.bucket), by_connection=True, of_queues=True)
    for (connection, label, bucket), count in sums_of(reader, connections, window, waits, past_sums).items():
        counts.setdefault((connection, label), _Counts()).waits[bucket] = count
    return counts
