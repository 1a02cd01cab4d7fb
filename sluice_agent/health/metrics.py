"""Health as Prometheus metrics. Counters are those of the journal's directory, so they outlive the process."""

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
from sluice_agent.transport.journal.accounting import DestinationReport

if TYPE_CHECKING:
    from sluice_agent.monitor import MonitorState

_PREFIX = "sluice_agent_"


def metrics_page(probe: Callable[[], Health], accept: str) -> tuple[bytes, str]:
    """Return the page and its content type, in the format that the request's header `accept` names."""
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
        yield _gauge("ready", "1 if there is no problem, as in /readyz.", not health.problems)
        yield _labelled("problem", "1 for every current problem.", "problem", dict.fromkeys(health.problems, 1))
        yield _gauge("journal_bytes", "Size of the journal in bytes.", health.report["bytes"])
        yield _gauge("journal_max_bytes", "Limit of the journal's size in bytes.", health.max_bytes)
        yield _gauge("disk_free_bytes", "Free bytes on the journal's disk.", health.report["disk_free"])
        yield from _destination_metrics(health.report["destinations"])
        if health.monitor is not None:
            yield from _monitor_metrics(health.monitor)
            yield from _queue_metrics(health.monitor.depths)


def _destination_metrics(reports: Mapping[str, DestinationReport]) -> Iterator[Metric]:
    figures: dict[str, tuple[str, Callable[[DestinationReport], int]]] = {
        "captured": ("Events captured for the destination.", lambda report: report["captured"]),
        "delivered": ("Events delivered to the destination.", lambda report: report["delivered"]),
        "duplicates": ("Delivered events that the destination had already.", lambda report: report["duplicates"]),
        "rejected": ("Events that the destination refused for good.", lambda report: report["rejected"]),
        "resent": ("Events sent again because the answer was lost.", lambda report: report["resent"]),
        "skipped": ("Events that the destination does not select.", lambda report: report["skipped"]),
    }
    for name, (help_text, figure) in figures.items():
        values = {destination: figure(report) for destination, report in reports.items()}
        yield _labelled(name, help_text, "destination", values, kind=CounterMetricFamily)
    dropped = CounterMetricFamily(f"{_PREFIX}dropped", "Events dropped, by reason.", labels=("destination", "reason"))
    for destination, report in reports.items():
        for reason, count in report["dropped"].items():
            dropped.add_metric((destination, reason), count)
    yield dropped
    pending = {destination: report["pending"] for destination, report in reports.items()}
    yield _labelled("pending", "Events that wait for delivery.", "destination", pending)
    shippers = {destination: int(report["shipper"] is not None) for destination, report in reports.items()}
    yield _labelled("shipper_up", "1 if a process ships to the destination.", "destination", shippers)
    failing = {destination: int(report["last_error"] is not None) for destination, report in reports.items()}
    yield _labelled("delivery_failing", "1 if the last delivery failed.", "destination", failing)
    deliveries = {destination: report["last_delivery"] for destination, report in reports.items()}
    times = {destination: _unix_time(timestamp) for destination, timestamp in deliveries.items() if timestamp}
    yield _labelled("last_delivery_timestamp_seconds", "Time of the last accepted delivery.", "destination", times)


def _monitor_metrics(state: MonitorState) -> Iterator[Metric]:
    yield _labelled("events", "Events from the broker.", "type", state.events, kind=CounterMetricFamily)
    yield _gauge("receiver_connected", "1 if the receiver is subscribed and the broker answers.", state.connected)
    yield _counter("receiver_connections", "Connections of the receiver.", state.connections)
    yield _counter("receiver_gaps", "Interruptions of the reception.", state.gaps)
    yield _counter("receiver_gap_seconds", "Seconds of interruption, in total.", state.gap_seconds)
    yield _gauge("receiver_silent_seconds", "Seconds since the broker's last sign of life.", state.silent_seconds)
    yield _gauge("receiver_read_ahead_bytes", "Bytes read and not yet decoded.", state.read_ahead_bytes)
    yield _gauge("receiver_lag_seconds", "Seconds between reading the last event and writing it.", state.lag_seconds)
    yield _counter("receiver_undecodable", "Messages that could not be decoded as events.", state.undecodable)
    yield _gauge("tasks_remembered", "Jobs in memory.", state.remembered)
    yield _gauge("workers", "Known workers.", state.workers)


def _queue_metrics(depths: Mapping[str, Any]) -> Iterator[Metric]:
    ready = {name: depth.ready for name, depth in depths.items()}
    yield _labelled("queue_depth", "Jobs that wait in the queue.", "queue", ready)
    consumers = {name: depth.consumers for name, depth in depths.items() if depth.consumers is not None}
    yield _labelled("queue_consumers", "Workers that consume from the queue.", "queue", consumers)
    unacked = {name: depth.unacked for name, depth in depths.items() if depth.unacked is not None}
    yield _labelled("queue_unacked", "Jobs delivered to workers and not yet acknowledged.", "queue", unacked)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, help_text, value=value)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, help_text, value=value)


def _labelled(
    name: str,
    help_text: str,
    label: str,
    values: Mapping[str, float],
    kind: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily,
) -> Metric:
    family = kind(_PREFIX + name, help_text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family


def _unix_time(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
