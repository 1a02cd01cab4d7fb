"""Queues as pages show them: the vendor's fields, and who waits there for how long."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from sluice_agent.server.pages.findings import GROWTH_WITHIN, QueueState
from sluice_agent.server.pages.formats import MISSING
from sluice_agent.server.pages.plots import spark_column
from sluice_agent.server.pages.rates import Rate
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.last_event import first_event_at
from sluice_agent.server.queries.queue_flow import Flow, depths_at, flow_by_queue
from sluice_agent.server.queries.queues import list_queues
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.queries.under_way import Waiting, waiting_jobs
from sluice_agent.server.queries.window import Span, TimeRange, window_of
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.store.schema import queue
from sluice_agent.server.timestamps import timestamp_or_none

_NO_FLOW = Flow(None, 0)
_SNAPSHOT_VALID = 5 * 60_000_000  # microseconds for which a snapshot shows the present
_LEAST = 0.05  # jobs a minute that are shown as a growth


class QueueRow(NamedTuple):
    """A queue. `depth` and `consumers` are the broker's, None if no snapshot of the present has them; `waiting` are the
    jobs that were published and have not started, at least so many if not `is_waiting_exact`.

    Rates are jobs a minute in the window, those of jobs that ended, arrived and left; `net` is the difference of the
    latter two. `spark` are the paths of small bars: of the jobs that failed, and of those that completed. Durations are
    milliseconds; if not `is_wait_exact`, the oldest job waits for that long at most. `since` is a timestamp.
    """

    name: str
    depth: int | None
    depth_before: int | None
    consumers: int | None
    waiting: int
    is_waiting_exact: bool
    oldest_wait: int | None
    is_wait_exact: bool
    since: str | None
    rate: Rate
    arrived: float | None
    left: float
    mean_wait: float | None
    failure_rate: float | None
    spark: tuple[str, ...]

    @property
    def net(self) -> float | None:
        """How many more jobs a minute arrived than left."""
        return None if self.arrived is None else self.arrived - self.left

    @property
    def net_text(self) -> str:
        """The same with its sign."""
        if self.net is None:
            return MISSING
        return f"{self.net:+,.1f}".replace("-", "−") if abs(self.net) >= _LEAST else "0"

    @property
    def size(self) -> int:
        """The jobs in the queue: those in the broker, or those that were published and have not started, if more."""
        return max(self.waiting, self.depth or 0)

    @property
    def state(self) -> QueueState:
        """What may be wrong with it."""
        wait = self.oldest_wait if self.is_wait_exact else None
        return QueueState(self.name, self.depth, self.depth_before, None if wait is None else wait * 1_000)


def queue_rows(
    reader: Connection, connection: NamedConnection, time_range: TimeRange, now: int, past_sums: PastSums
) -> list[QueueRow]:
    """Return all queues of a connection, by name; what jobs did is that of the window up to `now`."""
    window = window_of(Span(time_range.value), now)
    listed = list_queues(reader, {connection.id: connection.number}, window, None, past_sums)
    flows = flow_by_queue(reader, connection.number, window, past_sums)
    waiting = waiting_jobs(reader, connection.number)
    snapshots = reader.execute(select(queue.c.queue, queue.c.at).where(queue.c.connection == connection.number))
    snapshot_at = {row.queue: row.at for row in snapshots}
    before = depths_at(reader, connection.number, snapshot_at, now - 2 * GROWTH_WITHIN, now - GROWTH_WITHIN)
    labels = {text: label for label, text in texts_of(reader, (*snapshot_at, *flows, *waiting.by_queue)).items()}
    minutes = window.seconds_since(first_event_at(reader, connection.number)) / 60
    outdated = {label for label, at in snapshot_at.items() if at < now - _SNAPSHOT_VALID}
    by_name = {**{name: _unlisted(name) for name in labels}, **{item["name"]: item for item in listed}}
    bars = [item["healthBar"]["buckets"] for _, item in sorted(by_name.items())]
    sparks = spark_column(
        [([bar["failed"] for bar in of_queue], [bar["succeeded"] for bar in of_queue]) for of_queue in bars]
    )
    return [
        _row(
            {**item, "depth": None, "consumers": None} if labels.get(name) in outdated else item,
            labels.get(name),
            flows.get(labels.get(name, 0), _NO_FLOW),
            waiting,
            before,
            minutes,
            now,
            spark,
        )
        for (name, item), spark in zip(sorted(by_name.items()), sparks, strict=True)
    ]


def _unlisted(name: str) -> dict[str, Any]:
    """Return what is known of a queue from which no job has started, and that no snapshot has named."""
    unknown = dict.fromkeys(("depth", "consumers", "avgLatencyMs", "failureRate"))
    return {"name": name, **unknown, "healthBar": {"buckets": []}}


def _row(
    item: dict[str, Any],
    label: int | None,
    flow: Flow,
    waiting: Waiting,
    depths_before: dict[int, int],
    minutes: float,
    now: int,
    spark: tuple[str, ...],
) -> QueueRow:
    jobs, since = (0, None) if label is None else waiting.by_queue.get(label, (0, None))
    is_wait_exact = since is not None or waiting.is_complete
    if since is None and not waiting.is_complete:
        since = waiting.last
    bars = item["healthBar"]["buckets"]
    ended = sum(bar["succeeded"] + bar["failed"] for bar in bars)
    return QueueRow(
        item["name"],
        item["depth"],
        None if label is None else depths_before.get(label),
        item["consumers"],
        jobs,
        waiting.is_complete,
        None if since is None else max(0, now - since) // 1_000,
        is_wait_exact,
        timestamp_or_none(since),
        Rate(ended, minutes),
        None if flow.arrived is None else flow.arrived / minutes,
        flow.left / minutes,
        item["avgLatencyMs"],
        item["failureRate"] if ended else None,
        spark,
    )
