"""Responses to probes and Prometheus, of a real server over a real journal."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as families

from sluice_agent.commands.probes import health_of, serve_probes
from sluice_agent.errors import ConfigError
from sluice_agent.health import Health, HealthServer, serve_health
from sluice_agent.monitor import MonitorState
from sluice_agent.monitor.queues import QueueDepth
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.shippers import Shippers
from sluice_agent.transport.journal.accounting import report_on
from sluice_agent.transport.journal.directory import open_directory
from sluice_agent.transport.journal.writer import JournalWriter
from tests.support.endpoint import Endpoint
from tests.support.process import Process, free_port
from tests.support.waiting import wait_until
from tests.unit.transport.lines import event

CONNECTION = uuid.uuid4()
CONNECTED = MonitorState(
    connected=True,
    connections=2,
    gaps=1,
    gap_seconds=4.5,
    silent_seconds=0.5,
    read_ahead_bytes=1_000,
    lag_seconds=0.25,
    undecodable=3,
    events={"task-received": 7, "worker-heartbeat": 2},
    remembered=6,
    workers=2,
    depths={"celery": QueueDepth(12, consumers=2, unacked=4), 'odd "name"\n': QueueDepth(0)},
)

Request = Callable[..., tuple[int, str]]


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, tmp_path: Path) -> Settings:
    """Settings of a sidecar, with a free address for probes."""
    for name, value in {
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": str(CONNECTION),
        "SLUICE_API_URL": endpoint.url,
        "SLUICE_STATE_DIR": str(tmp_path),
        "SLUICE_FLUSH_INTERVAL": "0.05",
        "SLUICE_HEALTH_ADDR": f"127.0.0.1:{free_port()}",
    }.items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalWriter]:
    """The sidecar's journal."""
    journal = JournalWriter(open_directory(tmp_path, str(CONNECTION)), 64_000_000)
    yield journal
    journal.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[], Health]], Request]]:
    """`serve(probe)` starts a server of the health that `probe` returns, and returns a client of it."""
    servers: list[HealthServer] = []

    def start(probe: Callable[[], Health]) -> Request:
        servers.append(server := serve_health("127.0.0.1:0", probe))
        return client_of(server.port)

    yield start
    for server in servers:
        server.stop()


def client_of(port: int, host: str = "127.0.0.1") -> Request:
    """Return `request(path)`, which returns the status and the body."""

    def request(path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        connection = HTTPConnection(host, port, timeout=5)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body

    return request


def figures(page: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a page: figures by name and label values."""
    return {
        (sample.name.removeprefix("sluice_agent_"), *sample.labels.values()): sample.value
        for family in families(page)
        for sample in family.samples
    }


def test_a_sidecar_that_receives_and_delivers_is_ready(
    settings: Settings, journal: JournalWriter, serve: Callable[..., Request]
) -> None:
    """A probe that fails without a reason would have the sidecar restarted for ever."""
    request = serve(lambda: health_of(settings, journal.directory, CONNECTED))
    assert request("/healthz") == (200, "ok\n")
    assert request("/readyz") == (200, "ok\n")
    assert request("/readyz", "HEAD") == (200, "")
    assert request("/")[0] == 404


def test_a_receiver_without_events_is_not_ready(
    settings: Settings, journal: JournalWriter, serve: Callable[..., Request]
) -> None:
    """A sidecar without events looks exactly like an idle cluster. It is alive: no restart would help."""
    disconnected = replace(CONNECTED, connected=False, silent_seconds=41.0)
    request = serve(lambda: health_of(settings, journal.directory, disconnected))
    status, body = request("/readyz")
    assert status == 503
    assert body.startswith("receiver_deaf: nothing was received from the broker for 41 s")
    assert request("/healthz") == (200, "ok\n")
    assert figures(request("/metrics")[1])["problem", "receiver_deaf"] == 1


def test_a_receiver_that_never_connected_is_named(settings: Settings, journal: JournalWriter) -> None:
    """A wrong password has another remedy than a broker that disconnected a moment ago."""
    never_connected = replace(CONNECTED, connected=False, connections=0, silent_seconds=90.0)
    problems = health_of(settings, journal.directory, never_connected).problems
    assert "has not connected to the broker since its start, 90 s ago" in problems["receiver_deaf"]


def test_an_endpoint_that_refuses_is_not_ready(
    settings: Settings, journal: JournalWriter, endpoint: Endpoint, serve: Callable[..., Request]
) -> None:
    """A revoked key stops every delivery: users need an alert before the journal is full."""
    journal.append(event(1))
    endpoint.key = "sk_another"
    shippers = Shippers(settings, journal.directory)
    shippers.start()
    try:
        wait_until(lambda: endpoint.requests)
        wait_until(lambda: "key_refused_sluice" in health_of(settings, journal.directory, CONNECTED).problems)
        request = serve(lambda: health_of(settings, journal.directory, CONNECTED))
        status, body = request("/readyz")
        assert status == 503
        assert "key_refused_sluice: 1 events wait for sluice, which refuses SLUICE_API_KEY" in body
        metrics = figures(request("/metrics")[1])
        assert (metrics["ready",], metrics["delivery_failing", "sluice"], metrics["shipper_up", "sluice"]) == (0, 1, 1)
    finally:
        shippers.stop(0)


def test_a_full_directory_is_not_ready(
    settings: Settings, journal: JournalWriter, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Request]
) -> None:
    """From then on events are dropped."""
    monkeypatch.setenv("SLUICE_JOURNAL_MAX_BYTES", "1000000")
    for number in range(6_000):
        journal.append(event(number))
    assert "folder_full: " in serve(lambda: health_of(Settings(), journal.directory, CONNECTED))("/readyz")[1]


def test_metrics_hold_all_figures(
    settings: Settings, journal: JournalWriter, endpoint: Endpoint, serve: Callable[..., Request]
) -> None:
    """An alert on lost events, on a queue that fills or on a receiver that lags needs the figure by this name."""
    for number in range(5):
        journal.append(event(number))
    journal.drop("disk")
    shippers = Shippers(settings, journal.directory)
    shippers.deliver(10)
    journal.append(event(6))
    metrics = figures(serve(lambda: health_of(settings, journal.directory, CONNECTED))("/metrics")[1])
    expected = {
        ("captured_total", "sluice"): 7,
        ("delivered_total", "sluice"): 5,
        ("rejected_total", "sluice"): 0,
        ("duplicates_total", "sluice"): 0,
        ("dropped_total", "sluice", "disk"): 1,
        ("pending", "sluice"): 1,
        ("journal_max_bytes",): 268_435_456,
        ("events_total", "task-received"): 7,
        ("events_total", "worker-heartbeat"): 2,
        ("receiver_connected",): 1,
        ("receiver_connections_total",): 2,
        ("receiver_gaps_total",): 1,
        ("receiver_gap_seconds_total",): 4.5,
        ("receiver_lag_seconds",): 0.25,
        ("receiver_read_ahead_bytes",): 1_000,
        ("receiver_undecodable_total",): 3,
        ("tasks_remembered",): 6,
        ("workers",): 2,
        ("queue_depth", "celery"): 12,
        ("queue_consumers", "celery"): 2,
        ("queue_unacked", "celery"): 4,
        ("queue_depth", 'odd "name"\n'): 0,
    }
    assert {name: metrics.get(name) for name in expected} == expected
    assert ("queue_consumers", 'odd "name"\n') not in metrics  # unknown is not zero
    assert metrics["last_delivery_timestamp_seconds", "sluice"] > 1.7e9


def test_a_process_that_only_ships_has_metrics_too(
    settings: Settings, journal: JournalWriter, serve: Callable[..., Request]
) -> None:
    """`sluice-agent ship` has no receiver that could be disconnected."""
    request = serve(lambda: health_of(settings, journal.directory, None))
    assert request("/readyz") == (200, "ok\n")
    metrics = figures(request("/metrics")[1])
    assert metrics["pending", "sluice"] == 0
    assert ("receiver_connected",) not in metrics


def test_a_shipper_answers_probes(settings: Settings, journal: JournalWriter, tmp_path: Path) -> None:
    """A prober restarts the container beside a worker: it must answer, and end on SIGTERM."""
    port = int((settings.health_addr or "").rpartition(":")[2])
    journal.append(event(1))
    process = Process([sys.executable, "-m", "sluice_agent", "ship"], tmp_path / "ship.log", dict(os.environ))
    try:
        request = client_of(port)
        wait_until(lambda: report_on(journal.directory, {"sluice": None})["delivered"] == 1, 20, "", process.tail)
        assert figures(request("/metrics")[1])["delivered_total", "sluice"] == 1  # a check is kept for seconds
        assert request("/readyz") == (200, "ok\n")
        process.send(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.stop()


def test_openmetrics_is_sent_on_request(
    settings: Settings, journal: JournalWriter, serve: Callable[..., Request]
) -> None:
    """Prometheus asks for it first; a page that is neither format is no page."""
    request = serve(lambda: health_of(settings, journal.directory, CONNECTED))
    page = request("/metrics", Accept="application/openmetrics-text; version=1.0.0")[1]
    assert page.endswith("# EOF\n")
    assert "sluice_agent_delivered" in {family.name for family in openmetrics(page)}


def test_many_probes_cost_one_check(settings: Settings, journal: JournalWriter, serve: Callable[..., Request]) -> None:
    """A check reads the journal: frequent probes must not keep the disk busy."""
    calls: list[int] = []

    def probe() -> Health:
        calls.append(1)
        return health_of(settings, journal.directory, CONNECTED)

    request = serve(probe)
    threads = [threading.Thread(target=request, args=("/readyz",)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    request("/metrics")
    assert len(calls) == 1


def test_a_check_that_fails_is_reported(serve: Callable[..., Request]) -> None:
    """A removed directory is a problem to report, not a reason to close the connection."""

    def probe() -> Health:
        raise OSError("the volume is gone")

    request = serve(probe)
    assert request("/readyz") == (503, "internal_error: OSError: the volume is gone\n")
    assert request("/metrics")[0] == 503
    assert request("/healthz")[0] == 200


def test_the_address_is_that_of_the_settings(settings: Settings, journal: JournalWriter) -> None:
    """A probe connects to the address in the deployment."""
    server = serve_probes(settings, journal.directory, lambda: CONNECTED)
    assert server is not None
    assert settings.health_addr == f"127.0.0.1:{server.port}"
    assert client_of(server.port)("/readyz") == (200, "ok\n")
    with pytest.raises(ConfigError, match=f"SLUICE_HEALTH_ADDR is '{settings.health_addr}', and nothing can listen"):
        serve_probes(settings, journal.directory)
    server.stop()
    socket.create_server(("127.0.0.1", server.port)).close()  # the port is free again


def test_without_an_address_nothing_listens(
    settings: Settings, journal: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that the user has not configured is a finding in a security audit."""
    monkeypatch.delenv("SLUICE_HEALTH_ADDR")
    assert serve_probes(Settings(), journal.directory) is None


def test_ipv6_is_an_address_too(settings: Settings, journal: JournalWriter) -> None:
    """In a cluster that has only IPv6, probes use it."""
    try:
        server = serve_health("[::1]:0", lambda: health_of(settings, journal.directory, None))
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    assert client_of(server.port, "::1")("/healthz") == (200, "ok\n")
    server.stop()


def test_without_prometheus_client_the_error_names_what_to_install(
    settings: Settings, journal: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra: a worker's image does not need it, and a sidecar without it must name what is missing."""
    monkeypatch.delitem(sys.modules, "sluice_agent.health.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'sluice-agent\[monitor\]'"):
        serve_probes(settings, journal.directory)
