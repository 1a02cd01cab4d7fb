"""A real `sluice-agent monitor` process, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPConnection
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.brokers import Broker
from tests.support.process import free_port
from tests.support.sidecar import Sidecar


class ProbedSidecar(Sidecar):
    """A sidecar that answers probes, and samples the broker's queue every half second."""

    def __init__(self, directory: Path, broker: Broker, env: Mapping[str, str]) -> None:
        self.port = free_port()
        own = {"SLUICE_HEALTH_ADDR": f"127.0.0.1:{self.port}", "SLUICE_QUEUE_INTERVAL": "0.5"}
        super().__init__(directory, broker, {**env, **own}, ("--queue", broker.queue))

    def ask(self, path: str) -> tuple[int, str]:
        """The status and the body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    def figure(self, name: str, *labels: str) -> float | None:
        """One figure of /metrics; None where it is not there."""
        for family in text_string_to_metric_families(self.ask("/metrics")[1]):
            for sample in family.samples:
                if sample.name == f"sluice_agent_{name}" and tuple(sample.labels.values()) == labels:
                    return sample.value
        return None
