"""How many jobs came into a queue and left it, and whether it fills."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from sluice_agent.server.queries.sums import PastSums, Summed, sums_of
from sluice_agent.server.queries.window import Window
from sluice_agent.server.record.measures import Measure
from sluice_agent.server.store.schema import rollup, series


class Flow(NamedTuple):
    """The jobs that were published to a queue in a window, and those that started. The first is None if no producer
    reports what it publishes."""

    arrived: int | None
    left: int


def flow_by_queue(reader: Connection, connection: int, window: Window, past_sums: PastSums) -> dict[int, Flow]:
    """Return the flow of each queue, by its label."""
    summed = Summed((Measure.QUEUED, Measure.STARTED), (rollup.c.queue, rollup.c.measure), of_queues=True)
    counts: dict[int, dict[int, int]] = {}
    for (queue, measure), count in sums_of(reader, [connection], window, summed, past_sums).items():
        counts.setdefault(queue, {})[measure] = count
    return {queue: Flow(by.get(Measure.QUEUED), by.get(Measure.STARTED, 0)) for queue, by in counts.items()}


def depths_at(reader: Connection, connection: int, queues: Iterable[int], since: int, at: int) -> dict[int, int]:
    """Return the depth of each of `queues`, by label, in its last snapshot from a moment to another."""
    within = (series.c.connection == connection, series.c.label.in_(queues), series.c.at.between(since, at))
    latest = (
        select(series.c.label, func.max(series.c.at).label("at")).where(*within).group_by(series.c.label).subquery()
    )
    statement = select(series.c.label, series.c.depth).where(
        series.c.connection == connection, series.c.label == latest.c.label, series.c.at == latest.c.at
    )
    return {label: depth for label, depth in reader.execute(statement) if depth is not None}
