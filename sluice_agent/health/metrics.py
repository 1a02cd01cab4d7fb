"""Health in Prometheus' words. Counters are those of the journal's folder, so they outlive the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sluice_agent.health.snapshot import Health
from sluice_agent.transport.accounting import DestinationReport

if TYPE_CHECKING:
    from sluice_agent.monitor import MonitorState

_PREFIX = "sluice_agent_"


def metrics_page(probe: Callable[[], Health], accept: str) -> tuple[bytes, str]:
    """The page and its content type, in the format that `accept`, a header of the request, asks for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(probe()))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Families(Collector):
    def __init__(self, health: Health) -> None:
        self._health = health

    def collect(self) -> Iterator[Metric]:
        health = self._health
        yield InfoMetricFamily(f"{_PREFIX}build", "This agent.", {"version": version("sluice-agent")})
        yield _gauge("ready", "Whether nothing is wrong: what /readyz says.", not health.problems)
        yield _by("problem", "1 for each thing that is wrong.", "problem", dict.fromkeys(health.problems, 1))
        yield _gauge("journal_bytes", "Bytes that the journal takes.", health.report["bytes"])
        yield _gauge("journal_max_bytes", "Bytes that the journal may take.", health.most_bytes)
        yield _gauge("disk_free_bytes", "Bytes free on the journal's disk.", health.report["disk_free"])
        yield from _of_destinations(health.report["destinations"])
        if health.monitor is not None:
            yield from _of_the_monitor(health.monitor)
            yield from _of_queues(health.monitor.depths)


def _of_destinations(reports: Mapping[str, DestinationReport]) -> Iterator[Metric]:
    figures: dict[str, tuple[str, Callable[[DestinationReport], int]]] = {
        "captured": ("Events that were captured for it.", lambda one: one["captured"]),
        "delivered": ("Events that it has.", lambda one: one["delivered"]),
        "duplicates": ("Those of the delivered that it had already.", lambda one: one["duplicates"]),
        "rejected": ("Events that it refused for good.", lambda one: one["rejected"]),
        "resent": ("Events sent again because the answer was lost.", lambda one: one["resent"]),
        "skipped": ("Events that it does not choose to be told.", lambda one: one["skipped"]),
    }
    for name, (about, figure) in figures.items():
        yield _by(
            name, about, "destination", {to: figure(one) for to, one in reports.items()}, kind=CounterMetricFamily
        )
    dropped = CounterMetricFamily(
        f"{_PREFIX}dropped", "Events that were given up, and why.", labels=("destination", "reason")
    )
    for to, one in reports.items():
        for reason, count in one["dropped"].items():
            dropped.add_metric((to, reason), count)
    yield dropped
    yield _by("pending", "Events that wait.", "destination", {to: one["pending"] for to, one in reports.items()})
    shippers = {to: int(one["shipper"] is not None) for to, one in reports.items()}
    yield _by("shipper_up", "Whether a process ships to it.", "destination", shippers)
    failing = {to: int(one["last_error"] is not None) for to, one in reports.items()}
    yield _by("delivery_failing", "Whether the last delivery failed.", "destination", failing)
    last = {to: _moment(one["last_delivery"]) for to, one in reports.items() if one["last_delivery"]}
    yield _by("last_delivery_timestamp_seconds", "When it last took events.", "destination", last)


def _of_the_monitor(state: MonitorState) -> Iterator[Metric]:
    yield _by("events", "Events from the broker.", "type", state.events, kind=CounterMetricFamily)
    yield _gauge("receiver_connected", "Whether the receiver hears the broker.", state.connected)
    yield _counter("receiver_connections", "How often it connected.", state.connections)
    yield _counter("receiver_gaps", "How often it was deaf for a while.", state.gaps)
    yield _counter("receiver_gap_seconds", "For how long altogether.", state.gap_seconds)
    yield _gauge("receiver_silent_seconds", "Seconds since the broker's last sign of life.", state.silent_seconds)
    yield _gauge("receiver_read_ahead_bytes", "Bytes read and not yet decoded.", state.read_ahead_bytes)
    yield _gauge("receiver_lag_seconds", "How long the last event waited for its line.", state.lag_seconds)
    yield _counter("receiver_undecodable", "Messages that were no events.", state.undecodable)
    yield _gauge("tasks_remembered", "Jobs in memory.", state.remembered)
    yield _gauge("workers", "Workers that are known.", state.workers)


def _of_queues(depths: Mapping[str, Any]) -> Iterator[Metric]:
    ready = {name: depth.ready for name, depth in depths.items()}
    yield _by("queue_depth", "Jobs that wait in a queue.", "queue", ready)
    consumers = {name: depth.consumers for name, depth in depths.items() if depth.consumers is not None}
    yield _by("queue_consumers", "Workers that take from it.", "queue", consumers)
    unacked = {name: depth.unacked for name, depth in depths.items() if depth.unacked is not None}
    yield _by("queue_unacked", "Jobs that workers have and did not acknowledge.", "queue", unacked)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, about, value=value)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, about, value=value)


def _by(
    name: str,
    about: str,
    label: str,
    values: Mapping[str, float],
    kind: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily,
) -> Metric:
    family = kind(_PREFIX + name, about, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _moment(text: str | None) -> float:
    return datetime.fromisoformat((text or "").replace("Z", "+00:00")).timestamp()
