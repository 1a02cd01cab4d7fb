"""The depth of queues, on each broker in common setups."""

from __future__ import annotations

import gc
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery
from kombu import Queue

from sluice_agent import log
from sluice_agent.monitor.broker.connection import connect
from sluice_agent.monitor.queues import QueueDepth
from sluice_agent.monitor.queues.readers import RabbitMQQueueReader
from sluice_agent.monitor.queues.sampler import Consumers, inspect_consumers
from tests.support.brokers import Broker, rabbitmq_broker, redis_broker
from tests.support.endpoint import Endpoint
from tests.support.process import free_port
from tests.support.producer import Producer
from tests.support.queue_sampling import running_sampler
from tests.support.server_variants import (
    ClusterRedisServer,
    ManagedRabbitMQServer,
    SentinelRedisServer,
    TLSRedisServer,
    conf_of,
)
from tests.support.servers import RabbitMQServer, RedisServer, Server
from tests.support.waiting import wait_until, within
from tests.support.worker import WorkerProcess


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory for one server."""
    return tmp_path / "server"


@pytest.fixture
def own_redis(directory: Path) -> Iterator[Callable[[type[RedisServer]], Broker]]:
    """`own_redis(kind)`: a broker on a Redis of that kind, for this test only."""
    servers: list[RedisServer] = []

    def start(kind: type[RedisServer]) -> Broker:
        servers.append(server := kind(directory))
        return Broker(
            "redis", server.url(), "cache+memory://", {"task_default_queue": "jobs", **conf_of(server)}, server
        )

    yield start
    for server in servers:
        server.close()


def no_workers() -> Consumers:
    """Return the consumers of a cluster on which no worker runs."""
    return Consumers(is_complete=True)


def send(app: Celery, count: int, **options: Any) -> None:
    """Publish messages that no worker consumes."""
    for _ in range(count):
        app.send_task("unknown.task", **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority_steps": list(range(10))},
        {"priority_steps": [0, 5], "sep": ":"},
        {"global_keyprefix": "shop.", "sep": "-"},
    ],
    ids=["as-they-are", "ten-steps", "own-separator", "prefix"],
)
def test_redis_counts_every_priority(redis_server: RedisServer, options: dict[str, Any]) -> None:
    """Otherwise a queue whose jobs have priorities would look empty, or include another queue's jobs."""
    broker = redis_broker(redis_server, {"broker_transport_options": options})
    app = broker.app()
    for priority in (0, 4, 9):
        send(app, 3, priority=priority)
    send(app, 1, queue="another")
    with running_sampler(app, [broker.queue]) as sampling:
        wait_until(lambda: sampling.depth(broker.queue) == 9, 10, f"sampled: {sampling.snapshots}")
        send(app, 1, priority=9)
        wait_until(lambda: sampling.depth(broker.queue) == 10)
    app.close()


@pytest.mark.parametrize("kind", [TLSRedisServer, SentinelRedisServer, ClusterRedisServer])
def test_redis_is_sampled_in_every_setup(own_redis: Callable[..., Broker], kind: type[RedisServer]) -> None:
    """A production Redis is rarely a plain one: queues behind TLS, sentinels or in a cluster must be sampled too."""
    broker = own_redis(kind)
    app = broker.app()
    send(app, 4)
    with running_sampler(app, [broker.queue]) as sampling:
        wait_until(lambda: sampling.depth(broker.queue) == 4, 15, f"sampled: {sampling.snapshots}")
    app.close()


@pytest.mark.parametrize("dead", ["refuses", "is silent"])
def test_a_dead_sentinel_is_skipped(own_redis: Callable[..., Broker], dead: str) -> None:
    """Sentinels serve the day on which a machine fails, which is when queues and events must be visible."""
    broker = own_redis(SentinelRedisServer)
    with socket.create_server(("127.0.0.1", 0)) as first:  # it accepts connections, and answers nothing
        port = first.getsockname()[1] if dead == "is silent" else free_port()
        app = replace(broker, url=f"sentinel://127.0.0.1:{port}/0;{broker.url}").app()
        send(broker.app(), 2)
        started = time.monotonic()
        connect(app, 0).release()
        assert time.monotonic() - started < 4
        with running_sampler(app, [broker.queue]) as sampling:
            within(15, lambda: sampling.depth(broker.queue) == 2, f"sampled: {sampling.snapshots}")
        app.close()


def test_redis_queues_are_found_by_their_bindings(redis_server: RedisServer) -> None:
    """Jobs that wait in a queue which no worker consumes any more are the ones that users miss too late."""
    broker = redis_broker(redis_server)
    app = broker.app()
    exchange = app.amqp.queues[broker.queue].exchange
    with app.connection_for_write() as connection:
        for name in ("forgotten", "empty"):
            Queue(name, exchange, routing_key=name)(connection.default_channel).declare()
    send(app, 2, queue=Queue("forgotten", exchange, routing_key="forgotten"))
    with running_sampler(app, [broker.queue]) as sampling:
        wait_until(lambda: sampling.depth("forgotten") == 2, 10, f"sampled: {sampling.snapshots}")
        assert sampling.latest("empty") is None  # every snapshot costs the user, and that one would be empty
        with app.connection_for_write() as connection:
            connection.default_channel.queue_purge("forgotten")
        wait_until(lambda: sampling.depth("forgotten") == 0)
        sampling.snapshots.clear()
        wait_until(lambda: sampling.depth(broker.queue) == 0)
        wait_until(lambda: len(sampling.snapshots) > 3)
        assert sampling.latest("forgotten") is None
    app.close()


def test_consumers_of_a_redis_queue_are_counted_by_inspect(
    start_worker: Callable[..., WorkerProcess], brokers: Callable[[str], Broker]
) -> None:
    """Redis doesn't count them, and a user must distinguish a queue that fills from a queue without consumers."""
    broker = brokers("redis")
    for _ in range(2):
        start_worker(broker=broker, agent=False)
    start_worker(broker=broker, agent=False, args=("-Q", f"{broker.queue},mail"))
    app = broker.app()
    with running_sampler(app, [broker.queue, "unwanted"]) as sampling:
        wait_until(lambda: sampling.latest(broker.queue), 10)
        assert sampling.latest(broker.queue) == {"name": broker.queue, "depth": 0, "consumers": 3}
        assert sampling.latest("mail") == {"name": "mail", "depth": 0, "consumers": 1}
        assert sampling.latest("unwanted") == {"name": "unwanted", "depth": 0, "consumers": 0}
    app.close()


@pytest.mark.parametrize("name", ["redis", "rabbitmq"])
def test_asking_the_workers_leaves_nothing_behind(brokers: Callable[[str], Broker], name: str) -> None:
    """The sampler asks once a minute for months: if kombu kept objects of each time, the worker's memory would grow."""
    app = brokers(name).app()

    def objects_after_asking(times: int, connection: Any) -> int:
        for _ in range(times):
            assert inspect_consumers(app, connection) == Consumers()
        gc.collect()
        return len(gc.get_objects())

    with app.connection_for_read() as connection:
        before = objects_after_asking(3, connection)
        after = objects_after_asking(6, connection)
    app.close()
    assert after - before < 200


@pytest.mark.parametrize("name", ["rabbitmq", "rabbitmq-quorum"])
def test_rabbitmq_reports_depth_and_consumers(
    brokers: Callable[[str], Broker], start_worker: Callable[..., WorkerProcess], name: str
) -> None:
    """A missing queue must not hide the existing ones: RabbitMQ closes the channel on a request for it."""
    broker = brokers(name)
    app = broker.app()
    send(app, 5)
    with running_sampler(app, ["missing", broker.queue, "missing-too"]) as sampling:
        wait_until(lambda: sampling.latest(broker.queue) == {"name": broker.queue, "depth": 5, "consumers": 0}, 15)
        start_worker(broker=broker, agent=False)
        wait_until(lambda: sampling.latest(broker.queue) == {"name": broker.queue, "depth": 0, "consumers": 1}, 15)
        assert sampling.latest("missing") is sampling.latest("missing-too") is None
    app.close()


def test_a_queue_that_is_made_later_is_sampled_at_once(brokers: Callable[[str], Broker]) -> None:
    """Otherwise a user who deploys workers after the sidecar would see no queue for half a minute, or longer."""
    broker = brokers("rabbitmq")
    app = broker.app()
    now = 0.0
    with app.connection_for_read() as connection:
        reader = RabbitMQQueueReader(connection, None, lambda: now)

        def appears(name: str, seconds: float, consumed: tuple[str, ...] = ()) -> bool:
            nonlocal now
            now += seconds
            return name in reader.depths([name], consumed)

        assert not appears(broker.queue, 0)
        app.amqp.queues[broker.queue](connection.default_channel).declare()
        assert appears(broker.queue, 10)
        absent = Queue(f"{broker.queue}-later", durable=True)
        for _ in range(360):
            assert not appears(absent.name, 10)
        absent(connection.default_channel).declare()
        assert not appears(absent.name, 0)
        assert appears(absent.name, 0, (absent.name,))  # a worker consumes it
        absent(connection.default_channel).delete()
        for _ in range(360):
            assert not appears(absent.name, 10, (absent.name,))
        absent(connection.default_channel).declare()
        reader.depths([broker.queue])  # a sample of one queue does not change the consumed ones
        assert not appears(absent.name, 0, (absent.name,))
        assert appears(absent.name, 60, (absent.name,))
        absent(connection.default_channel).delete()
    app.close()


def test_missing_queues_cost_rabbitmq_no_channels(brokers: Callable[[str], Broker]) -> None:
    """A connection has 2,047 channels. If each missing queue took one, the sampling would end after some days."""
    broker = brokers("rabbitmq")
    app = broker.app()
    send(app, 1)
    with app.connection_for_read() as connection:
        reader = RabbitMQQueueReader(connection, None)
        missing = [f"missing-{number}" for number in range(50)]
        wait_until(lambda: reader.depths([*missing, broker.queue])[broker.queue] == QueueDepth(1, consumers=0))
        assert reader.depths(missing).keys().isdisjoint(missing)
        assert len(connection.connection.channels) == 2  # the connection's and the reader's
    app.close()


def test_rabbitmq_reports_jobs_that_wait_for_their_eta(
    brokers: Callable[[str], Broker], start_worker: Callable[..., WorkerProcess]
) -> None:
    """With quorum queues a job with an ETA is in none of the user's queues: it would not be counted."""
    broker = brokers("rabbitmq-quorum")
    start_worker(broker=broker, agent=False)  # a worker makes the queues of delayed delivery
    app = broker.app()
    send(app, 3, countdown=100)
    with running_sampler(app, [broker.queue]) as sampling:
        wait_until(lambda: sampling.depth("celery_delayed_6") == 3, 15, f"sampled: {sampling.snapshots}")
        assert (
            sampling.latest("celery_delayed_27") is None
        )  # every snapshot costs the user, and that one would be empty
    app.close()


def test_rabbitmq_reports_unacknowledged_messages(
    directory: Path, redis_server: RedisServer, start_worker: Callable[..., WorkerProcess]
) -> None:
    """Jobs that workers have prefetched but not started are in no queue's depth: the management API counts them."""
    server = ManagedRabbitMQServer(directory)
    try:
        broker = rabbitmq_broker(server, redis_server)
        app = broker.app()
        with app.connection_for_read() as connection:
            queue = app.amqp.queues[broker.queue](connection.default_channel)
            queue.declare()
            send(app, 4)
            wait_until(lambda: queue.get() is not None)  # one is received, and not acknowledged
            with running_sampler(app, [broker.queue], management_url=server.management_url) as sampling:
                # The API's figures are up to 5 s old.
                wait_until(lambda: sampling.sampler.depths[broker.queue].unacked == 1, 20)
                assert sampling.depth(broker.queue) == 3
            with running_sampler(app, [broker.queue], management_url="http://127.0.0.1:1") as sampling:
                wait_until(lambda: sampling.depth(broker.queue) == 3, 10, "an API that is down hides the depth")
        app.close()
    finally:
        server.close()


@pytest.fixture(
    scope="module", params=[RedisServer, pytest.param(RabbitMQServer, marks=pytest.mark.xdist_group("own rabbitmq"))]
)
def own_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests below stop; it runs again when they have ended."""
    server: Server = request.param(tmp_path_factory.mktemp("own"))
    yield server
    server.close()


@pytest.fixture
def own_broker(own_server: Server, redis_server: RedisServer) -> Broker:
    """A queue on it."""
    if isinstance(own_server, RabbitMQServer):
        return rabbitmq_broker(own_server, redis_server)
    assert isinstance(own_server, RedisServer)
    return redis_broker(own_server)


def test_a_broker_that_comes_back_is_sampled_again(own_broker: Broker) -> None:
    """Otherwise queues would be invisible from the broker's first restart until the user restarts the sidecar."""
    broker = own_broker
    producer, app = broker.app(), broker.app()
    send(producer, 2)
    assert broker.server is not None
    connections = _connections_to(broker.server.port)
    with running_sampler(app, [broker.queue]) as sampling:
        wait_until(lambda: sampling.depth(broker.queue) == 2, 15)
        threads = threading.active_count()
        try:
            broker.server.kill()
            wait_until(lambda: not sampling.sampler.depths, 20, "an old depth is shown as current")
            sampling.snapshots.clear()
        finally:
            broker.server.start()
        send(producer, 7)
        wait_until(lambda: (sampling.depth(broker.queue) or 0) >= 7, 30, f"sampled: {sampling.snapshots}")
        assert threading.active_count() == threads
    port = broker.server.port
    wait_until(lambda: _connections_to(port) <= connections, 5, "a connection is left open")
    producer.close()
    app.close()


def test_a_broker_that_hangs_is_noticed(own_broker: Broker) -> None:
    """A connection whose other end is dead stays open and silent: the last depth would be shown for ever."""
    broker = own_broker
    app = broker.app()
    send(app, 2)
    assert broker.server is not None
    with running_sampler(app, [broker.queue]) as sampling:
        wait_until(lambda: sampling.depth(broker.queue) == 2, 15)
        broker.server.kill(signal.SIGSTOP)
        try:
            wait_until(lambda: not sampling.sampler.depths, 20, "the hang is not noticed")
        finally:
            broker.server.kill(signal.SIGCONT)
        sampling.snapshots.clear()
        wait_until(lambda: sampling.depth(broker.queue) == 2, 40, "it is not sampled again")
    app.close()


def test_the_next_broker_of_a_list_is_tried(redis_server: RedisServer) -> None:
    """A failover list serves the day on which the first broker fails."""
    broker = redis_broker(redis_server)
    producer = broker.app()
    send(producer, 3)
    app = Celery(broker=f"redis://127.0.0.1:{free_port()}/0;{broker.url}", set_as_current=False)
    with running_sampler(app, [broker.queue]) as sampling:
        wait_until(lambda: sampling.depth(broker.queue) == 3, 20, f"sampled: {sampling.snapshots}")
    producer.close()
    app.close()


def test_a_sampling_worker_may_fork(
    brokers: Callable[[str], Broker],
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
) -> None:
    """A thread with a connection runs beside a pool that forks all the time: it must not make a child hang."""
    broker = brokers("redis")
    env = {"SLUICE_QUEUES": "1", "SLUICE_QUEUE_INTERVAL": "0.01"}
    worker = start_worker(broker=broker, env=env, args=("--max-tasks-per-child=1",))
    ids = producer(broker).run_json(
        """
        import json
        from tests.integration.tasks import add
        print(json.dumps([add.delay(1, 2).id for _ in range(15)]))
        """
    )

    def children_have_one_thread() -> bool:
        return all(psutil.Process(pid).num_threads() == 1 for pid in worker.pids())

    wait_until(lambda: endpoint.queues().get(broker.queue), 20, "no process samples", worker.tail)
    wait_until(children_have_one_thread)
    wait_until(
        lambda: all(endpoint.states(job)[-1:] == ["completed"] for job in ids), 90, "tasks are missing", worker.tail
    )
    assert worker.terminate().code == 0
    assert "Traceback" not in worker.logs()


def test_samples_keep_the_interval(brokers: Callable[[str], Broker]) -> None:
    """Every snapshot is an event that the user pays for."""
    broker = brokers("redis")
    app = broker.app()
    with running_sampler(app, [broker.queue], 0.5, consumers=no_workers) as sampling:
        wait_until(lambda: sampling.snapshots)
        started = time.monotonic()
        wait_until(lambda: len(sampling.snapshots) >= 5)
        assert time.monotonic() - started >= 1.9
        assert sampling.latest(broker.queue) == {"name": broker.queue, "depth": 0, "consumers": 0}
    app.close()


def test_a_filesystem_broker_is_counted_too(brokers: Callable[[str], Broker], caplog: pytest.LogCaptureFixture) -> None:
    """Any other kombu transport can count messages; it has no election, and counts no consumers."""
    log.last_logged.clear()
    broker = brokers("filesystem")
    app = broker.app()
    send(app, 3)
    with running_sampler(app, [broker.queue]) as sampling:
        wait_until(lambda: sampling.latest(broker.queue) == {"name": broker.queue, "depth": 3})
    with running_sampler(app, [broker.queue], must_be_elected=True) as sampling:
        wait_until(lambda: "this worker samples no queues" in caplog.text)
        assert sampling.snapshots == []
    app.close()


def _connections_to(port: int) -> int:
    connections = [link for link in psutil.Process().net_connections() if link.raddr]
    return sum(link.raddr.port == port and link.status == "ESTABLISHED" for link in connections)
