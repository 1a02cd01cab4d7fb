"""What probes and Prometheus are told, by a real server over a real journal."""

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
from sluice_agent.transport.directory import open_directory
from sluice_agent.transport.journal import Journal
from sluice_agent.transport.shippers import Shippers
from tests.support.endpoint import Endpoint
from tests.support.process import Process, free_port
from tests.support.waiting import wait_until
from tests.unit.transport.lines import event

CONNECTION = uuid.uuid4()
HEARING = MonitorState(
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

Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A fresh ingest endpoint."""
    server = Endpoint()
    yield server
    server.close()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint, tmp_path: Path) -> Settings:
    """Those of a sidecar, with an address for probes that is free."""
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
def journal(tmp_path: Path) -> Iterator[Journal]:
    """The sidecar's journal."""
    made = Journal(open_directory(tmp_path, str(CONNECTION)), 64_000_000)
    yield made
    made.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[], Health]], Ask]]:
    """`serve(probe)`: a way to ask a server that tells what `probe` says."""
    servers: list[HealthServer] = []

    def start(probe: Callable[[], Health]) -> Ask:
        servers.append(server := serve_health("127.0.0.1:0", probe))
        return asking(server.port)

    yield start
    for server in servers:
        server.stop()


def asking(port: int, host: str = "127.0.0.1") -> Ask:
    """`ask(path)`: the status and the body."""

    def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        connection = HTTPConnection(host, port, timeout=5)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    return ask


def figures(page: str) -> dict[tuple[str, ...], float]:
    """The samples of a page: the name and the labels' values, and the figure."""
    return {
        (sample.name.removeprefix("sluice_agent_"), *sample.labels.values()): sample.value
        for family in families(page)
        for sample in family.samples
    }


def test_a_sidecar_that_hears_and_delivers_is_ready(
    settings: Settings, journal: Journal, serve: Callable[..., Ask]
) -> None:
    """A probe that fails without a reason has the sidecar restarted for ever."""
    ask = serve(lambda: health_of(settings, journal.directory, HEARING))
    assert ask("/healthz") == (200, "ok\n")
    assert ask("/readyz") == (200, "ok\n")
    assert ask("/readyz", "HEAD") == (200, "")
    assert ask("/")[0] == 404


def test_a_deaf_receiver_is_not_ready(settings: Settings, journal: Journal, serve: Callable[..., Ask]) -> None:
    """A sidecar that hears nothing looks exactly like a cluster that does nothing. It lives: no restart would help."""
    ask = serve(lambda: health_of(settings, journal.directory, replace(HEARING, connected=False, silent_seconds=41.0)))
    status, body = ask("/readyz")
    assert status == 503
    assert body.startswith("receiver_deaf: the broker's events have not been heard for 41 s")
    assert ask("/healthz") == (200, "ok\n")
    assert figures(ask("/metrics")[1])["problem", "receiver_deaf"] == 1


def test_a_receiver_that_has_never_heard_says_so(settings: Settings, journal: Journal) -> None:
    """A wrong password is looked for elsewhere than a broker that went away a moment ago."""
    never = replace(HEARING, connected=False, connections=0, silent_seconds=90.0)
    assert "since the start, 90 s ago" in health_of(settings, journal.directory, never).problems["receiver_deaf"]


def test_an_endpoint_that_refuses_is_not_ready(
    settings: Settings, journal: Journal, endpoint: Endpoint, serve: Callable[..., Ask]
) -> None:
    """A revoked key stops every delivery: somebody must be told before the journal is full."""
    journal.append(event(1))
    endpoint.key = "sk_another"
    shippers = Shippers(settings, journal.directory)
    shippers.start()
    try:
        wait_until(lambda: endpoint.requests)
        wait_until(lambda: "key_refused_sluice" in health_of(settings, journal.directory, HEARING).problems)
        ask = serve(lambda: health_of(settings, journal.directory, HEARING))
        status, body = ask("/readyz")
        assert status == 503
        assert "key_refused_sluice: 1 events wait for sluice, which refuses SLUICE_API_KEY" in body
        told = figures(ask("/metrics")[1])
        assert (told["ready",], told["delivery_failing", "sluice"], told["shipper_up", "sluice"]) == (0, 1, 1)
    finally:
        shippers.stop(0)


def test_a_full_folder_is_not_ready(
    settings: Settings, journal: Journal, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Ask]
) -> None:
    """From then on events are dropped."""
    monkeypatch.setenv("SLUICE_JOURNAL_MAX_BYTES", "1000000")
    for number in range(6_000):
        journal.append(event(number))
    assert "folder_full: " in serve(lambda: health_of(Settings(), journal.directory, HEARING))("/readyz")[1]


def test_metrics_tell_the_whole_account(
    settings: Settings, journal: Journal, endpoint: Endpoint, serve: Callable[..., Ask]
) -> None:
    """An alert on lost events, on a queue that fills or on a receiver that lags needs the figure by this name."""
    for number in range(5):
        journal.append(event(number))
    journal.drop("disk")
    shippers = Shippers(settings, journal.directory)
    shippers.deliver(10)
    journal.append(event(6))
    told = figures(serve(lambda: health_of(settings, journal.directory, HEARING))("/metrics")[1])
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
    assert {name: told.get(name) for name in expected} == expected
    assert ("queue_consumers", 'odd "name"\n') not in told  # nobody knows is not none
    assert told["last_delivery_timestamp_seconds", "sluice"] > 1.7e9


def test_a_process_that_only_ships_has_metrics_too(
    settings: Settings, journal: Journal, serve: Callable[..., Ask]
) -> None:
    """`sluice-agent ship` has no receiver to be deaf."""
    ask = serve(lambda: health_of(settings, journal.directory, None))
    assert ask("/readyz") == (200, "ok\n")
    told = figures(ask("/metrics")[1])
    assert told["pending", "sluice"] == 0
    assert ("receiver_connected",) not in told


def test_a_shipper_answers_probes(settings: Settings, journal: Journal, tmp_path: Path) -> None:
    """The container beside a worker is restarted by whoever asks it: it must answer, and end when it is told to."""
    port = int((settings.health_addr or "").rpartition(":")[2])
    journal.append(event(1))
    process = Process([sys.executable, "-m", "sluice_agent", "ship"], tmp_path / "ship.log", dict(os.environ))
    try:
        wait_until(lambda: figures(asking(port)("/metrics")[1])["delivered_total", "sluice"] == 1, 20, "", process.tail)
        assert asking(port)("/readyz") == (200, "ok\n")
        process.send(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.stop()


def test_openmetrics_is_spoken_where_it_is_asked_for(
    settings: Settings, journal: Journal, serve: Callable[..., Ask]
) -> None:
    """Prometheus asks for it first; a page that is neither format is no page."""
    ask = serve(lambda: health_of(settings, journal.directory, HEARING))
    page = ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")[1]
    assert page.endswith("# EOF\n")
    assert "sluice_agent_delivered" in {family.name for family in openmetrics(page)}


def test_many_probes_cost_one_look(settings: Settings, journal: Journal, serve: Callable[..., Ask]) -> None:
    """A look reads the journal: an eager probe must not keep the disk busy."""
    looks: list[int] = []

    def probe() -> Health:
        looks.append(1)
        return health_of(settings, journal.directory, HEARING)

    ask = serve(probe)
    threads = [threading.Thread(target=ask, args=("/readyz",)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ask("/metrics")
    assert len(looks) == 1


def test_a_look_that_fails_is_told(serve: Callable[..., Ask]) -> None:
    """A folder that was taken away is a problem to tell, not a reason to hang up."""

    def probe() -> Health:
        raise OSError("the volume is gone")

    ask = serve(probe)
    assert ask("/readyz") == (503, "internal_error: OSError: the volume is gone\n")
    assert ask("/metrics")[0] == 503
    assert ask("/healthz")[0] == 200


def test_the_address_is_that_of_the_settings(settings: Settings, journal: Journal) -> None:
    """A probe asks where the deployment says."""
    server = serve_probes(settings, journal.directory, lambda: HEARING)
    assert server is not None
    assert settings.health_addr == f"127.0.0.1:{server.port}"
    assert asking(server.port)("/readyz") == (200, "ok\n")
    with pytest.raises(ConfigError, match=f"SLUICE_HEALTH_ADDR is '{settings.health_addr}', and nothing can listen"):
        serve_probes(settings, journal.directory)
    server.stop()
    socket.create_server(("127.0.0.1", server.port)).close()  # the port is given back


def test_without_an_address_nothing_listens(
    settings: Settings, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that nobody asked for is a finding in somebody's audit."""
    monkeypatch.delenv("SLUICE_HEALTH_ADDR")
    assert serve_probes(Settings(), journal.directory) is None


def test_ipv6_is_an_address_too(settings: Settings, journal: Journal) -> None:
    """In a cluster that has only that, probes come by it."""
    try:
        server = serve_health("[::1]:0", lambda: health_of(settings, journal.directory, None))
    except ConfigError:
        pytest.skip("this machine has no IPv6")
    assert asking(server.port, "::1")("/healthz") == (200, "ok\n")
    server.stop()


def test_without_prometheus_client_one_is_told_what_to_install(
    settings: Settings, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an extra: a worker's image does not need it, and a sidecar's must say what it lacks."""
    monkeypatch.delitem(sys.modules, "sluice_agent.health.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'sluice-agent\[monitor\]'"):
        serve_probes(settings, journal.directory)
