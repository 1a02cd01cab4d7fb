"""The answers of a running sidecar to probes and Prometheus, with a real cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.probed_sidecar import ProbedSidecar
from tests.support.waiting import wait_until, within
from tests.support.worker import WorkerProcess


@pytest.fixture
def sidecar(tmp_path: Path, brokers: Callable[[str], Broker], sluice_env: dict[str, str]) -> Iterator[ProbedSidecar]:
    """A sidecar on this test's Redis."""
    started = ProbedSidecar(tmp_path, brokers("redis"), sluice_env)
    yield started
    started.stop()


def test_metrics_follow_the_cluster(
    sidecar: ProbedSidecar,
    brokers: Callable[[str], Broker],
    start_worker: Callable[..., WorkerProcess],
    endpoint: Endpoint,
) -> None:
    """An alert on a queue's depth, or on undelivered events, needs figures that follow the cluster."""
    broker = brokers("redis")
    wait_until(lambda: sidecar.get("/readyz") == (200, "ok\n"), 20, "it is not ready", sidecar.tail)
    app = broker.app()
    for _ in range(3):
        app.send_task("tests.integration.tasks.add", (1, 2))
    wait_until(lambda: sidecar.metric("queue_depth", broker.queue) == 3, 20, "", sidecar.tail)
    start_worker(broker=broker, agent=False, args=("-E",))
    wait_until(lambda: sidecar.metric("queue_depth", broker.queue) == 0, 20, "", sidecar.tail)
    wait_until(lambda: sidecar.metric("events_total", "task-succeeded") == 3, 20, "", sidecar.tail)
    wait_until(lambda: sidecar.metric("queue_consumers", broker.queue) == 1, 20, "", sidecar.tail)
    wait_until(lambda: (sidecar.metric("delivered_total", "sluice") or 0) >= 9, 20, "", sidecar.tail)
    assert sidecar.metric("workers") == 1
    assert sidecar.metric("tasks_remembered") == 3
    assert sidecar.metric("shipper_up", "sluice") == 1
    assert endpoint.queues()[broker.queue]
    app.close()


def test_the_probe_detects_a_lost_broker(sidecar: ProbedSidecar, brokers: Callable[[str], Broker]) -> None:
    """A sidecar without events looks like an idle cluster; and it must become ready again by itself."""
    server = brokers("redis").server
    assert server is not None
    wait_until(lambda: sidecar.get("/readyz")[0] == 200, 20, "it is not ready", sidecar.tail)
    try:
        server.kill()
        within(
            35,
            lambda: sidecar.get("/readyz")[1].startswith("receiver_deaf"),
            "it does not report the lost broker",
            sidecar.tail,
        )
        assert sidecar.get("/healthz")[0] == 200
    finally:
        server.start()
    wait_until(lambda: sidecar.get("/readyz")[0] == 200, 20, "it is not ready again", sidecar.tail)


def test_the_probe_detects_an_endpoint_that_refuses(
    sidecar: ProbedSidecar, endpoint: Endpoint, brokers: Callable[[str], Broker]
) -> None:
    """A revoked key must be noticed before the journal is full."""
    endpoint.key = "sk_another"
    wait_until(lambda: "key_refused_sluice" in sidecar.get("/readyz")[1], 30, "", sidecar.tail)
    assert sidecar.get("/healthz")[0] == 200
    sidecar.stop()
    endpoint.clear()  # requests with a wrong key are faults of any other test
