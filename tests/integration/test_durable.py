"""`sluice-agent monitor --durable NAME`: a queue on RabbitMQ that collects events whether anybody listens or not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from sluice_agent.monitor import DurableQueue
from sluice_agent.monitor.durable import Durable
from sluice_agent.server.record import record_of
from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.process import ROOT, Process, free_port
from tests.support.running_monitor import publish, publish_event, running_monitor
from tests.support.servers import RabbitMQServer
from tests.support.sidecar import Sidecar
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess, python_env

DONE = ["queued", "active", "completed"]
DURABLE = ("--durable", "sluice-test")


@pytest.fixture
def sidecar(
    brokers: Callable[[str], Broker], sluice_env: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Sidecar]]:
    """`sidecar(*args)`: a sidecar on RabbitMQ, with a journal of its own; all are ended with the test."""
    started: list[Sidecar] = []

    def start(*args: str) -> Sidecar:
        started.append(made := Sidecar(tmp_path, brokers("rabbitmq"), sluice_env, args))
        return made

    yield start
    for each in started:
        each.stop()
    with brokers("rabbitmq").app().connection_for_write() as connection:
        connection.default_channel.queue_delete(DURABLE[1])


def send(broker: Broker, count: int) -> list[str]:
    """Tasks that do nothing, sent by somebody without the agent; their ids."""
    app = broker.app()
    return [app.send_task("tests.integration.tasks.noop").id for _ in range(count)]


def command(env: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """A command of ours, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "sluice_agent", *args],
        cwd=ROOT,
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def told_twice(endpoint: Endpoint) -> list[object]:
    """Transitions that the endpoint takes for two."""
    told = Counter((job, state) for job in endpoint.jobs() for state in endpoint.walk(job))
    return [what for what, times in told.items() if times > 1]


def are_told(endpoint: Endpoint, jobs: list[str]) -> bool:
    """Whether the endpoint has the whole life of each job."""
    return all(endpoint.states(job) == DONE for job in jobs)


@pytest.mark.xdist_group("rabbitmq")
def test_nothing_is_lost_while_no_sidecar_runs(
    endpoint: Endpoint, sidecar: Callable[..., Sidecar], start_worker: Callable[..., WorkerProcess]
) -> None:
    """Without it a deployment of the sidecar is a hole in the history of every job that ran meanwhile."""
    worker = start_worker(broker="rabbitmq", agent=False, args=["-E"])
    first = sidecar(*DURABLE)
    before = send(worker.broker, 50)
    wait_until(lambda: are_told(endpoint, before), 20, "the sidecar does not tell", first.tail)
    late = send(worker.broker, 100)  # some of it is on its way when the sidecar dies
    first.process.send(signal.SIGKILL)
    first.process.wait()
    missed = send(worker.broker, 100)
    wait_until(lambda: all(f"[{job}] succeeded" in worker.logs() for job in missed), 30, "no work is done", worker.tail)
    second = sidecar(*DURABLE)
    wait_until(lambda: are_told(endpoint, before + missed), 20, "events are missing", second.tail)
    assert command(first.env, "ship", "--once").returncode == 0  # what the first had written
    wait_until(lambda: are_told(endpoint, late), 20, "events are missing", second.tail)
    names = {event["job"]["name"] for job in before + missed for event in endpoint.jobs()[job]}
    assert names == {"tests.integration.tasks.noop"}
    assert told_twice(endpoint) == []


@pytest.mark.xdist_group("rabbitmq")
def test_what_is_held_back_for_a_second_is_not_lost_with_the_sidecar(
    endpoint: Endpoint, sidecar: Callable[..., Sidecar], brokers: Callable[[str], Broker]
) -> None:
    """A publication waits for a faster worker's word: until it is told, the broker must keep it."""
    broker = brokers("rabbitmq")
    first = sidecar(*DURABLE)
    about = {"name": "simulated", "queue": "q", "args": "()", "kwargs": "{}", "retries": 0}
    before = publish_event(broker.url, "task-sent", **about)
    wait_until(lambda: endpoint.states(before) == ["queued"], 20, "the sidecar does not tell", first.tail)
    job = publish_event(broker.url, "task-sent", **about)
    with broker.app().connection_for_read() as connection:
        queue = connection.default_channel.queue_declare
        wait_until(lambda: queue(DURABLE[1], passive=True).message_count == 0, 10, "it is not read", first.tail)
    first.process.send(signal.SIGKILL)
    second = sidecar(*DURABLE)
    wait_until(lambda: endpoint.states(job) == ["queued"], 20, "it is lost", second.tail)
    assert told_twice(endpoint) == []


@pytest.mark.xdist_group("rabbitmq")
def test_a_job_that_was_retried_before_the_sidecar_was_killed(
    endpoint: Endpoint, sidecar: Callable[..., Sidecar], start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    """The next sidecar receives no more than its end: taken for that of another attempt, the job would run for ever."""
    worker = start_worker(broker="rabbitmq", agent=False, args=["-E"])
    first = sidecar(*DURABLE)
    release = tmp_path / "release"
    paths = [str(tmp_path / "started"), str(release)]
    job = worker.broker.app().send_task("tests.integration.tasks.retry_and_hold", paths).id
    wait_until(lambda: ("active", 2) in endpoint.walk(job), 20, "the second attempt does not begin", first.tail)
    first.process.send(signal.SIGKILL)
    first.process.wait()
    second = sidecar(*DURABLE)
    release.touch()
    wait_until(lambda: "completed" in endpoint.states(job), 20, "its end is not reported", second.tail)
    record = record_of(map(json.dumps, endpoint.jobs()[job]))
    assert (record["state"], record["attempt"]) == ("completed", 2)
    assert [entry["state"] for entry in record["stateHistory"]] == [
        *("queued", "active", "retrying"),
        *("active", "completed"),
    ]


@pytest.mark.xdist_group("rabbitmq")
def test_a_standby_goes_on_where_the_active_one_was(
    endpoint: Endpoint, sidecar: Callable[..., Sidecar], start_worker: Callable[..., WorkerProcess]
) -> None:
    """Without it two sidecars tell halves of a job that neither understands, or one that dies takes events along."""
    worker = start_worker(broker="rabbitmq", agent=False, args=["-E"])
    first, second = sidecar(*DURABLE), sidecar(*DURABLE)
    before = send(worker.broker, 50)
    wait_until(lambda: are_told(endpoint, before), 20, "the active one does not tell", first.tail)
    assert first.terminate() == 0
    after = send(worker.broker, 50)
    wait_until(lambda: are_told(endpoint, after), 20, "the standby does not tell", second.tail)
    assert told_twice(endpoint) == []


@pytest.mark.xdist_group("rabbitmq")
def test_a_standby_does_not_take_for_lost_what_ended_before(
    endpoint: Endpoint, sidecar: Callable[..., Sidecar], start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    """It has asked what runs, and the active one has told how that ended: each deployment would say `unknown` of it."""
    worker = start_worker(broker="rabbitmq", agent=False, args=["-E"])
    first = sidecar(*DURABLE)
    release = tmp_path / "release"
    job = worker.broker.app().send_task("tests.integration.tasks.hold", [str(tmp_path / "started"), str(release)]).id
    wait_until(lambda: "active" in endpoint.states(job), 20, "the job does not begin", worker.tail)
    second = sidecar(*DURABLE)
    wait_until(lambda: any("job" in event for event in endpoint.duplicates), 20, "it does not ask", second.tail)
    release.touch()
    wait_until(lambda: are_told(endpoint, [job]), 20, "the active one does not tell", first.tail)
    assert first.terminate() == 0
    later = worker.broker.app().send_task("tests.integration.tasks.noop", countdown=10).id  # the worker is idle so long
    wait_until(lambda: "completed" in endpoint.states(later), 30, "the standby does not tell", second.tail)
    assert are_told(endpoint, [job])


def test_what_was_told_is_not_told_again_when_the_broker_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it each restart of the broker makes runs of jobs that never were."""
    server = RabbitMQServer(tmp_path / "rabbitmq")
    try:
        with running_monitor(server.url(), durable=DurableQueue("kept", 1_000, 600.0)) as seen:
            with monkeypatch.context() as patch:
                patch.setattr(Durable, "settle", lambda *_: None)  # the broker goes before it hears of it
                jobs = publish(server.url(), 200)
                wait_until(lambda: seen.has_reported(jobs), 10, "events are missing", seen.monitor.state)
                server.stop()
            server.start()
            seen.wait_until_connected()
            more = publish(server.url(), 20)
            wait_until(lambda: seen.has_reported(more), 20, "events are missing", seen.monitor.state)
            assert [job for job in jobs + more if len(seen.states(job)) != 3] == []
        assert seen.lost == {}
    finally:
        server.close()


def test_what_cannot_be_written_stays_in_the_broker(rabbitmq_server: RabbitMQServer) -> None:
    """Without it a full disk costs events that the broker would have kept."""
    room = [True]
    with running_monitor(
        rabbitmq_server.url(), durable=DurableQueue(DURABLE[1], 1_000, 600.0), can_keep=lambda: room[0]
    ) as seen:
        before = publish(rabbitmq_server.url(), 10)
        wait_until(lambda: seen.has_reported(before), 10, "events are missing", seen.monitor.state)
        room[0] = False
        meanwhile = publish(rabbitmq_server.url(), 500)
        wait_until(lambda: seen.monitor.state().read_ahead_bytes > 10_000, 10, "nothing is read", seen.monitor.state)
        assert not any(map(seen.states, meanwhile))
        room[0] = True
        wait_until(lambda: seen.has_reported(meanwhile), 10, "events are missing", seen.monitor.state)


def test_on_redis_it_is_refused_with_what_to_do_instead(
    brokers: Callable[[str], Broker], sluice_env: dict[str, str]
) -> None:
    """Without it somebody relies on a promise that Redis can't keep."""
    broker = brokers("redis")
    ended = command(python_env(broker, sluice_env), "monitor", "--broker", broker.url, *DURABLE)
    assert ended.returncode == 2
    assert "--durable needs RabbitMQ" in ended.stderr
    assert "sluice_agent.auto" in ended.stderr


def test_a_queue_with_other_numbers(
    brokers: Callable[[str], Broker], sluice_env: dict[str, str], tmp_path: Path
) -> None:
    """RabbitMQ changes no queue: a connection that is lost for ever would not say that the option is the reason."""
    broker = brokers("rabbitmq")
    link = broker.app().connection_for_write()
    channel = link.default_channel
    name = f"events-of-{broker.queue}"
    channel.queue_declare(name, durable=True, auto_delete=False, arguments={"x-queue-type": "quorum"})
    port = free_port()
    env = python_env(broker, {**sluice_env, "SLUICE_HEALTH_ADDR": f"127.0.0.1:{port}"})
    args = ("-m", "sluice_agent", "monitor", "--broker", broker.url, "--durable", name)
    other = Process([sys.executable, *args], tmp_path / "other.log", env)
    try:
        wait_until(lambda: "was made with other numbers" in other.logs(), 20, "nothing is said", other.tail)
        assert "inequivalent arg" in other.logs()
        assert "The connection to the broker is lost" not in other.logs()
        with pytest.raises(HTTPError) as caught:
            urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10)
        assert "since the start" in caught.value.read().decode()
        channel.queue_delete(name)
        wait_until(lambda: "Listening to the events" in other.logs(), 20, "it does not try again", other.tail)
    finally:
        other.stop()
        channel.queue_delete(name)
        link.release()
