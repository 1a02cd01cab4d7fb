"""Of all agents one samples the queues; when it is gone, another does."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime

import pytest
import redis

from sluice_agent import log
from sluice_agent.monitor.queues.election import TAKEOVER_SECONDS
from sluice_agent.monitor.queues.sampler import ELECTION, Consumers
from tests.support.brokers import Broker, redis_broker
from tests.support.endpoint import Endpoint
from tests.support.queue_sampling import running_sampler
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until, within
from tests.support.worker import WorkerProcess

INTERVAL = 0.5
SAMPLING = {"SLUICE_QUEUES": "1", "SLUICE_QUEUE_INTERVAL": str(INTERVAL)}
TAKEOVER_LIMIT = 30.0  # seconds until another one must lead


@pytest.fixture(autouse=True)
def fresh_log() -> None:
    """A warning is logged once a minute: without this, a test would miss its own."""
    log.last_logged.clear()


def sample_times(endpoint: Endpoint, queue: str) -> list[float]:
    """Return the times of the queue's samples."""
    events = endpoint.queues().get(queue, [])
    return [datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).timestamp() for event in events]


@pytest.mark.parametrize(
    ("broker_name", "pool"),
    [
        ("redis", "prefork"),
        ("redis", "eventlet"),
        ("rabbitmq", "gevent"),
        ("rabbitmq", "threads"),
        ("rabbitmq", "solo"),
    ],
)
def test_one_worker_samples_and_another_takes_over(
    endpoint: Endpoint,
    brokers: Callable[[str], Broker],
    start_worker: Callable[..., WorkerProcess],
    broker_name: str,
    pool: str,
) -> None:
    """Ten workers that all sample would cost ten times the events; the death of one must not end the sampling."""
    broker = brokers(broker_name)
    first = start_worker(broker=broker, pool=pool, env=SAMPLING)
    wait_until(lambda: sample_times(endpoint, broker.queue), 20, "no process samples", first.tail)
    second = start_worker(broker=broker, pool=pool, env=SAMPLING)
    seen = len(sample_times(endpoint, broker.queue))
    wait_until(lambda: len(sample_times(endpoint, broker.queue)) >= seen + 10, 20, "no process samples", first.tail)
    times = sample_times(endpoint, broker.queue)[seen:]
    assert times[-1] - times[0] > (len(times) - 1) * INTERVAL * 0.75, f"two sample: {times}"

    first.kill()
    died = time.time()
    within(
        TAKEOVER_LIMIT,
        lambda: sample_times(endpoint, broker.queue)[-1] > died + 1,
        "no process has taken over",
        second.tail,
    )
    if broker_name == "rabbitmq":  # on Redis the count changes when the workers are inspected again
        assert endpoint.queues()[broker.queue][-1]["queue"]["consumers"] == 1
    assert second.terminate().code == 0
    assert endpoint.duplicates == []


@pytest.mark.parametrize("broker_name", ["redis", "rabbitmq"])
def test_a_leader_that_hangs_is_replaced(
    brokers: Callable[[str], Broker], endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], broker_name: str
) -> None:
    """A process that hangs, or a machine that is cut off, does not resign: its connection stays open."""
    broker = brokers(broker_name)
    connection = str(uuid.uuid4())
    env = {**SAMPLING, "SLUICE_CONNECTION_ID": connection}
    worker = start_worker(broker=broker, pool="solo", env=env)
    wait_until(lambda: sample_times(endpoint, broker.queue), 20, "no process samples", worker.tail)
    app = broker.app()
    with running_sampler(app, [broker.queue], connection_id=connection, consumers=Consumers) as sampling:
        worker.kill(signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            wait_until(lambda: sampling.snapshots, TAKEOVER_LIMIT + 5, "no process has taken over")
            took = time.monotonic() - stopped
        finally:
            worker.kill(signal.SIGCONT)
        assert took <= TAKEOVER_LIMIT
        seen = len(sample_times(endpoint, broker.queue))
        sampling.snapshots.clear()
        wait_until(lambda: len(sampling.snapshots) > 3, 10, "two lead alternately")
        assert len(sample_times(endpoint, broker.queue)) <= seen + 1, "two lead at once"
    app.close()


def test_the_takeover_time_is_short_enough() -> None:
    """A user reads in the README that another takes over within 30 s."""
    assert TAKEOVER_SECONDS < TAKEOVER_LIMIT


@pytest.mark.parametrize("broker_name", ["redis", "rabbitmq"])
def test_a_leader_that_ends_lets_another_lead_at_once(brokers: Callable[[str], Broker], broker_name: str) -> None:
    """A deployment replaces the sidecar: the queues must not be invisible for a whole lease."""
    broker = brokers(broker_name)
    app = broker.app()
    app.send_task("unknown.task")
    with ExitStack() as running:
        first = running.enter_context(running_sampler(app, [broker.queue], consumers=Consumers))
        wait_until(lambda: first.snapshots, 15)
        others = [running.enter_context(running_sampler(app, [broker.queue], consumers=Consumers)) for _ in range(3)]
        first.snapshots.clear()
        wait_until(lambda: len(first.snapshots) > 10)
        assert [other.snapshots for other in others] == [[], [], []]
        first.sampler.stop(10)
        within(8, lambda: sum(bool(other.snapshots) for other in others) == 1, "none of the others leads")
        leader = next(other for other in others if other.snapshots)
        leader.snapshots.clear()
        wait_until(lambda: len(leader.snapshots) > 10)
        assert sum(bool(other.sampler.depths) for other in others) == 1
    app.close()


def test_another_sluice_connection_has_an_election_of_its_own(brokers: Callable[[str], Broker]) -> None:
    """Two teams that share a broker each see their queues."""
    broker = brokers("redis")
    app = broker.app()
    with (
        running_sampler(app, [broker.queue], consumers=Consumers) as ours,
        running_sampler(app, [broker.queue], consumers=Consumers, connection_id=str(uuid.uuid4())) as theirs,
    ):
        wait_until(lambda: ours.snapshots and theirs.snapshots)
    app.close()


def test_where_the_broker_refuses_an_election_only_a_sidecar_samples(
    brokers: Callable[[str], Broker], caplog: pytest.LogCaptureFixture
) -> None:
    """The log must give the reason if the broker user may not make a queue; a hundred workers must not all sample."""
    broker = brokers("rabbitmq")
    app = broker.app()
    connection = str(uuid.uuid4())
    with app.connection_for_write() as link:  # an exclusive queue of another connection refuses as a missing right does
        channel = link.channel()
        channel.queue_declare(queue=ELECTION.format(connection), exclusive=True)
        app.send_task("unknown.task")
        options = {"connection_id": connection, "consumers": Consumers}
        with (
            running_sampler(app, [broker.queue], must_be_elected=True, **options) as worker,
            running_sampler(app, [broker.queue], **options) as sidecar,
        ):
            wait_until(lambda: len(sidecar.snapshots) > 3, 15)
            assert worker.snapshots == []
    assert "refuses sluice-agent-queues-" in caplog.text
    assert "this worker samples no queues" in caplog.text
    app.close()


def test_a_login_that_is_refused_is_no_refusal_of_the_election(
    brokers: Callable[[str], Broker], caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a user would look for a missing right, and a worker wait 15 minutes after the password is corrected."""
    broker = brokers("rabbitmq")
    app = replace(broker, url=broker.url.replace("guest:guest@", "guest:wrong@")).app()
    with running_sampler(app, [broker.queue], must_be_elected=True, consumers=Consumers) as worker:
        wait_until(lambda: caplog.text, 20)
        assert worker.snapshots == []
    assert "can't be read from the broker (AccessRefused" in caplog.text
    assert "refuses sluice-agent-queues-" not in caplog.text
    app.close()


def test_a_redis_user_who_may_not_make_the_key_finds_it_in_the_log(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """If each team may use only its own keys, a user must learn from the log that the agent's key is not allowed."""
    broker = redis_broker(redis_server)
    with redis.Redis(port=redis_server.port) as admin:
        admin.execute_command("ACL SETUSER team on >secret ~q-* ~_kombu* ~unacked* ~*.pidbox &* +@all")
    url = broker.url.replace("redis://", "redis://team:secret@")
    app = replace(broker, url=url).app()
    app.send_task("unknown.task")
    options = {"connection_id": str(uuid.uuid4()), "consumers": Consumers}
    with (
        running_sampler(app, [broker.queue], must_be_elected=True, **options) as worker,
        running_sampler(app, [broker.queue], **options) as sidecar,
    ):
        wait_until(lambda: len(sidecar.snapshots) > 3, 15)
        assert worker.snapshots == []
    assert "refuses sluice-agent-queues-" in caplog.text
    assert "this worker samples no queues" in caplog.text
    assert "secret" not in caplog.text
    app.close()
