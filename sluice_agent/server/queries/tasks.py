"""Statistics of tasks by name, from rollups."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection

from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.sums import PastSums, Summed, sums_of
from sluice_agent.server.queries.window import Histogram, Window
from sluice_agent.server.record.measures import Measure
from sluice_agent.server.store.schema import rollup

_PERCENTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_RAN = (Measure.COMPLETED, Measure.FAILED, Measure.RETRIED)


def list_tasks(
    reader: Connection, connections: Collection[int], window: Window, past_sums: PastSums
) -> list[dict[str, Any]]:
    """Return the statistics of all tasks of `connections` that had runs in `window`, by name."""
    counts: dict[int, dict[int, dict[int, int]]] = {}
    summed = Summed(tuple(Measure), (rollup.c.name, rollup.c.measure, rollup.c.bucket))
    for (name, measure, bucket), count in sums_of(reader, connections, window, summed, past_sums).items():
        counts.setdefault(name, {}).setdefault(measure, {})[bucket] = count
    texts = texts_of(reader, counts)
    return sorted((_statistics(texts[name], by, window) for name, by in counts.items()), key=lambda task: task["name"])


def _statistics(name: str, counts: dict[int, dict[int, int]], window: Window) -> dict[str, Any]:
    completed, failed = (sum(counts.get(measure, {}).values()) for measure in (Measure.COMPLETED, Measure.FAILED))
    ran: dict[int, int] = {}
    for measure in _RAN:
        for bucket, count in counts.get(measure, {}).items():
            ran[bucket] = ran.get(bucket, 0) + count
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
        "runMs": _percentiles(Histogram(ran)),
    }


def _percentiles(histogram: Histogram) -> dict[str, int | None]:
    return dict(zip(_PERCENTILES, histogram.percentiles(tuple(_PERCENTILES.values())), strict=True))
