"""A monitor whose broker ends, restarts, stops sending, moves, or changes its password."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from celery import Celery
from kombu import Exchange, Producer

from tests.support.brokers import redis_broker
from tests.support.endpoint import Endpoint
from tests.support.probed_sidecar import ProbedSidecar
from tests.support.relay import Relay
from tests.support.running_monitor import RunningMonitor, publish, publish_event, running_monitor
from tests.support.servers import RabbitMQServer, RedisServer, Server
from tests.support.shared_rabbitmq import RabbitMQVhost
from tests.support.waiting import wait_until, within
from tests.support.worker import WorkerProcess

SERVERS = {"redis": RedisServer, "rabbitmq": RabbitMQServer}
SHARED = {"redis": "redis_server", "rabbitmq": "rabbitmq_vhost"}
RECONNECT_SECONDS = 5.0  # from the moment at which the broker serves again
SILENCE_SECONDS = 30.0  # until a silent connection is given up
OUTPUT_BUFFER_LIMIT = 1_000_000  # bytes that a subscriber of Redis may be behind in a test, in place of 32 MB


@pytest.fixture(params=SERVERS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A broker for this test alone, which may kill it."""
    started = SERVERS[request.param](tmp_path / request.param)
    yield started
    started.close()


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> RedisServer | RabbitMQVhost:
    """A broker that tests share, and that none may kill. No other test uses it at the same time."""
    found: RedisServer | RabbitMQVhost = request.getfixturevalue(SHARED[request.param])
    return found


@pytest.fixture
def redis_alone(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis for this test alone."""
    started = RedisServer(tmp_path / "alone")
    yield started
    started.close()


def connections_to(port: int) -> int:
    """Return the number of this process's connections to a port of this machine."""
    connections = psutil.Process().net_connections("tcp")
    established = [connection for connection in connections if connection.status == psutil.CONN_ESTABLISHED]
    return sum(connection.raddr.port == port for connection in established if connection.raddr)


def publish_until_a_subscriber_is_cut_off(url: str) -> list[str]:
    """Publish until Redis disconnects a subscriber that does not read; return the ids of the published jobs."""
    jobs = []
    with redis.Redis.from_url(url) as client:
        client.config_set("client-output-buffer-limit", f"pubsub {OUTPUT_BUFFER_LIMIT} 0 0")
        subscribers = client.client_list("pubsub")
        while len(client.client_list("pubsub")) == len(subscribers):
            jobs += publish(url, 1_000)
    return jobs


class Load:
    """Publishes events all the time, whether the broker runs or not."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.wait(0.01):
            with suppress(Exception):  # the broker is down
                publish(self._url, 8, "load@host")

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.mark.long
def test_a_broker_that_is_killed_ten_times_under_load(own_server: Server, repeats: Callable[[int, int], int]) -> None:
    """Without it one restart of the broker ends the monitoring of a cluster, or each leaves a connection behind."""
    before = set(threading.enumerate())
    server, url = own_server, own_server.url()
    with running_monitor(url) as seen:
        threads = len(set(threading.enumerate()) - before)
        load = Load(url)
        try:
            for _ in range(10 if server.name == "redis-server" else repeats(2, 10)):
                jobs = publish(url, 20)
                wait_until(lambda jobs=jobs: seen.has_reported(jobs), 15, "events were lost", seen.monitor.state)
                server.kill()
                wait_until(lambda: not seen.monitor.state().connected, 10, "the end was not noticed")
                server.start()
                within(
                    RECONNECT_SECONDS,
                    lambda: seen.monitor.state().connected,
                    "it does not reconnect",
                    seen.monitor.state,
                )
        finally:
            load.stop()
        jobs = publish(url, 20)
        wait_until(lambda: seen.has_reported(jobs), 15, "events were lost", seen.monitor.state)
        assert all(len(seen.states(job)) == 3 for job in jobs)
        assert seen.monitor.state().gaps == seen.monitor.state().connections - 1 > 0
        assert seen.dropped == {}
        assert len(set(threading.enumerate()) - before) <= threads
    wait_until(lambda: connections_to(server.port) == 0, 10, "connections are left over")
    assert set(threading.enumerate()) <= before


def test_a_storm_of_events_is_received_whole(server: RedisServer | RabbitMQVhost) -> None:
    """Without it the events of a busy minute are missing: Redis cuts off a subscriber that falls 32 MB behind."""
    with running_monitor(server.url()) as seen:
        jobs = publish(server.url(), 20_000)
        wait_until(lambda: seen.monitor.state().events.get("task-succeeded", 0) >= len(jobs), 60, "events are missing")
        assert seen.has_reported(jobs)
        assert seen.monitor.state().connections == 1


def test_pending_publications_are_emitted_at_shutdown(server: RedisServer | RabbitMQVhost) -> None:
    """A publication waits a second for a faster worker's event: a deployment of the sidecar must not lose it."""
    with running_monitor(server.url()) as seen:
        job = receive_a_publication(seen, server.url())
    assert seen.states(job) == ["queued"]


def test_pending_publications_are_emitted_when_the_broker_was_killed(own_server: Server) -> None:
    """Otherwise a host that shuts down its broker before its sidecar would lose what the sidecar had received."""
    with running_monitor(own_server.url()) as seen:
        job = receive_a_publication(seen, own_server.url())
        own_server.kill()
    assert seen.states(job) == ["queued"]


def receive_a_publication(seen: RunningMonitor, url: str) -> str:
    """Publish the publication of a job, and return the job's id once the monitor has received it."""
    jobs = publish(url, 1)
    wait_until(lambda: seen.has_reported(jobs), 10, "nothing is emitted", seen.monitor.state)
    job = publish_event(url, "task-sent", name="simulated", queue="q", args="()", kwargs="{}", retries=0)
    wait_until(lambda: seen.monitor.state().events.get("task-sent"), 10, "it is not received", seen.monitor.state)
    return job


@pytest.mark.long
def test_a_connection_that_is_silent_is_given_up(server: RedisServer | RabbitMQVhost) -> None:
    """Without it a firewall that forgets a connection ends the monitoring, and everything looks well."""
    relay = Relay(server.port)
    try:
        url = server.url().replace(str(server.port), str(relay.port))
        with running_monitor(url) as seen:
            jobs = publish(server.url(), 2)
            wait_until(lambda: seen.has_reported(jobs), 10, "nothing passes the relay", seen.monitor.state)
            assert relay.freeze()
            frozen_at = time.monotonic()
            wait_until(lambda: seen.monitor.state().gaps, SILENCE_SECONDS + 5, "it is not noticed", seen.monitor.state)
            assert time.monotonic() - frozen_at < SILENCE_SECONDS
            jobs = publish(server.url(), 2)
            wait_until(lambda: seen.has_reported(jobs), 10, "nothing is received again", seen.monitor.state)
            assert seen.monitor.state().gap_seconds > 15
    finally:
        relay.close()


@pytest.mark.long
def test_an_idle_connection_is_kept(server: RedisServer | RabbitMQVhost) -> None:
    """Without it each quiet hour is an hour of gaps."""
    with running_monitor(server.url()) as seen:
        time.sleep(25)  # longer than a silent connection is kept
        assert seen.monitor.state().connections == 1
        jobs = publish(server.url(), 2)
        wait_until(lambda: seen.has_reported(jobs), 10, "the connection was dead", seen.monitor.state)


def test_a_subscriber_that_redis_cuts_off_reports_it(
    redis_alone: RedisServer,
    endpoint: Endpoint,
    sluice_env: dict[str, str],
    start_worker: Callable[..., WorkerProcess],
    tmp_path: Path,
) -> None:
    """Without it the events of a storm are missing, and the user does not know it."""
    broker = redis_broker(redis_alone)
    worker = start_worker(broker=broker, agent=False, args=["-E"])
    sidecar = ProbedSidecar(tmp_path, broker, sluice_env)
    try:
        wait_until(lambda: worker.hostname in endpoint.workers(), 20, "nothing is received", sidecar.tail)
        sidecar.process.send(signal.SIGSTOP)
        flood = publish_until_a_subscriber_is_cut_off(broker.url)
        started, release = tmp_path / "started", tmp_path / "release"
        missed = broker.app().send_task("tests.integration.tasks.hold", (str(started), str(release))).id
        wait_until(started.exists, 10, "the worker is cut off", worker.tail)
        sidecar.process.send(signal.SIGCONT)
        wait_until(lambda: sidecar.metric("receiver_gaps_total") == 1, 10, "the gap is not counted", sidecar.tail)
        assert (sidecar.metric("receiver_gap_seconds_total") or 0) > 0
        assert "The connection to the broker is lost" in sidecar.process.logs()
        assert "receives events again after" in sidecar.process.logs()
        wait_until(lambda: endpoint.states(missed) == ["active"], 10, "its worker is not asked", sidecar.tail)
        release.touch()
        jobs = [*publish(broker.url, 2), missed]
        wait_until(
            lambda: all("completed" in endpoint.states(job) for job in jobs), 10, "nothing is received", sidecar.tail
        )
        assert {event["job"]["name"] for event in endpoint.jobs()[missed]} == {"tests.integration.tasks.hold"}
        assert not set(flood) <= endpoint.jobs().keys(), "nothing was lost, and so the test proves nothing"
    finally:
        sidecar.stop()


def test_the_next_broker_of_the_list_is_taken(redis_alone: RedisServer, tmp_path: Path) -> None:
    """Without it the brokers of a list after the first are useless."""
    other = RedisServer(tmp_path / "other")
    try:
        other.stop()
        with running_monitor(f"{other.url()};{redis_alone.url()}") as seen:
            jobs = publish(redis_alone.url(), 2)
            wait_until(lambda: seen.has_reported(jobs), 10, "the second broker is not used", seen.monitor.state)
            redis_alone.stop()
            other.start()
            wait_until(lambda: seen.monitor.state().gaps == 1, 20, "the first broker is not used", seen.monitor.state)
            jobs = publish(other.url(), 2)
            wait_until(lambda: seen.has_reported(jobs), 10, "the first broker is not used", seen.monitor.state)
    finally:
        other.close()


def test_credentials_that_change_are_read_again(redis_alone: RedisServer) -> None:
    """Without it the user has to restart the sidecar whenever a password is rotated."""
    password = ["first"]
    with redis.Redis.from_url(redis_alone.url()) as client:
        client.config_set("requirepass", "first")
        client.execute_command("AUTH", "first")

        def address() -> str:
            return f"redis://:{password[0]}@127.0.0.1:{redis_alone.port}/0"

        with running_monitor(address) as seen:
            client.config_set("requirepass", "second")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            wait_until(lambda: not seen.monitor.state().connected, 10, "it still listens")
            password[0] = "second"
            seen.wait_until_connected()
            jobs = publish(address(), 2)
            wait_until(lambda: seen.has_reported(jobs), 10, "nothing is received again", seen.monitor.state)


def test_messages_that_are_no_events_are_counted(server: RedisServer | RabbitMQVhost) -> None:
    """Without it any client that can publish to the event exchange ends the monitoring of the cluster."""
    app = Celery("vandal", broker=server.url(), set_as_current=False)
    with running_monitor(server.url()) as seen:
        with app.connection_for_write() as connection:
            kind = "fanout" if connection.transport.driver_type == "redis" else "topic"
            exchange = Exchange("celeryev", type=kind)
            producer = Producer(connection, exchange)
            for body, content_type in ((b"\x00\xff{", "application/json"), (b"x", "application/x-nothing")):
                producer.publish(
                    body,
                    routing_key="task.sent",
                    content_type=content_type,
                    content_encoding="binary",
                    declare=[exchange],
                )

            invalid: list[Any] = [None, 7, "text", [], {}, {"type": None}, {"type": "task-received"}, [[1]]]
            for event in invalid:
                producer.publish(event, routing_key="task.sent", declare=[exchange])
        wait_until(lambda: seen.dropped.total() >= len(invalid), 10, "not all is counted", lambda: seen.dropped)
        assert seen.monitor.state().undecodable == seen.dropped["undecodable"] == 3  # and the text
        jobs = publish(server.url(), 2)
        wait_until(lambda: seen.has_reported(jobs), 10, "the capture has ended", seen.monitor.state)
        assert seen.monitor.state().connections == 1
