"""A real `sluice-agent monitor` process, with its probes and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.brokers import Broker
from tests.support.process import free_port
from tests.support.sidecar import Sidecar


class ProbedSidecar(Sidecar):
    """A sidecar that serves probes, and samples the broker's queue every half second."""

    def __init__(self, directory: Path, broker: Broker, env: Mapping[str, str]) -> None:
        self.port = free_port()
        settings = {"SLUICE_HEALTH_ADDR": f"127.0.0.1:{self.port}", "SLUICE_QUEUE_INTERVAL": "0.5"}
        super().__init__(directory, broker, {**env, **settings}, ("--queue", broker.queue))

    def get(self, path: str) -> tuple[int, str]:
        """Return the HTTP status and the body of a GET."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body

    def metric(self, name: str, *labels: str) -> float | None:
        """Return the value of one metric of /metrics; None if it is absent."""
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == f"sluice_agent_{name}" and tuple(sample.labels.values()) == labels:
                    return sample.value
        return None
