"""`sluice-agent monitor --durable NAME`: a queue on RabbitMQ that collects events with or without a sidecar."""

from __future__ import annotations

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
from sluice_agent.monitor.broker.durable import Durable
from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.process import Process, free_port
from tests.support.python_forks import run_fork
from tests.support.records import record_of_events
from tests.support.running_monitor import publish, publish_event, running_monitor
from tests.support.servers import RabbitMQServer
from tests.support.shared_rabbitmq import RabbitMQVhost
from tests.support.sidecar import Sidecar
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess, python_env

DONE = ["queued", "active", "completed"]
DURABLE = ("--durable", "sluice-test")


@pytest.fixture
def sidecar(
    brokers: Callable[[str], Broker], sluice_env: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Sidecar]]:
    """`sidecar(*args)`: a sidecar on RabbitMQ, with a separate journal; all are stopped after the test."""
    started: list[Sidecar] = []

    def start(*args: str) -> Sidecar:
        started.append(sidecar := Sidecar(tmp_path, brokers("rabbitmq"), sluice_env, args))
        return sidecar

    yield start
    for sidecar in started:
        sidecar.stop()
    with brokers("rabbitmq").app().connection_for_write() as connection:
        connection.default_channel.queue_delete(DURABLE[1])


def send(broker: Broker, count: int) -> list[str]:
    """Send tasks that do nothing, without the agent; return their ids."""
    app = broker.app()
    return [app.send_task("tests.integration.tasks.noop").id for _ in range(count)]


def command(env: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `sluice-agent` to its end."""
    return run_fork([sys.executable, "-m", "sluice_agent", *args], env, 60)


def reported_twice(endpoint: Endpoint) -> list[object]:
    """Return the transitions that the endpoint counts twice."""
    counts = Counter((job, state) for job in endpoint.jobs() for state in endpoint.walk(job))
    return [transition for transition, count in counts.items() if count > 1]


def are_reported(endpoint: Endpoint, jobs: list[str]) -> bool:
    """Return whether the endpoint has the whole walk of each job."""
    return all(endpoint.states(job) == DONE for job in jobs)


def test_nothing_is_lost_while_no_sidecar_runs(
    endpoint: Endpoint, sidecar: Callable[..., Sidecar], start_worker: Callable[..., WorkerProcess]
) -> None:
    """Otherwise a deployment of the sidecar would leave a hole in the history of every job that ran meanwhile."""
    worker = start_worker(broker="rabbitmq", agent=False, args=["-E"])
    first = sidecar(*DURABLE)
    before = send(worker.broker, 50)
    wait_until(lambda: are_reported(endpoint, before), 20, "the sidecar does not report", first.tail)
    late = send(worker.broker, 100)  # some of these events are under way when the sidecar dies
    first.process.send(signal.SIGKILL)
    first.process.wait()
    missed = send(worker.broker, 100)
    wait_until(
        lambda: all(f"[{job}] succeeded" in worker.logs() for job in missed), 30, "the worker does nothing", worker.tail
    )
    second = sidecar(*DURABLE)
    wait_until(lambda: are_reported(endpoint, before + missed), 20, "events are missing", second.tail)
    assert command(first.env, "ship", "--once").returncode == 0  # the lines that the first had written
    wait_until(lambda: are_reported(endpoint, late), 20, "events are missing", second.tail)
    names = {event["job"]["name"] for job in before + missed for event in endpoint.jobs()[job]}
    assert names == {"tests.integration.tasks.noop"}
    assert reported_twice(endpoint) == []


def test_a_pending_publication_is_not_lost_with_the_sidecar(
    endpoint: Endpoint, sidecar: Callable[..., Sidecar], brokers: Callable[[str], Broker]
) -> None:
    """A publication waits a second for the worker's event: the broker must keep it until it is reported."""
    broker = brokers("rabbitmq")
    first = sidecar(*DURABLE)
    fields = {"name": "simulated", "queue": "q", "args": "()", "kwargs": "{}", "retries": 0}
    before = publish_event(broker.url, "task-sent", **fields)
    wait_until(lambda: endpoint.states(before) == ["queued"], 20, "the sidecar does not report", first.tail)
    job = publish_event(broker.url, "task-sent", **fields)
    with broker.app().connection_for_read() as connection:
        queue = connection.default_channel.queue_declare
        wait_until(lambda: queue(DURABLE[1], passive=True).message_count == 0, 10, "it is not read", first.tail)
    first.process.send(signal.SIGKILL)
    second = sidecar(*DURABLE)
    wait_until(lambda: endpoint.states(job) == ["queued"], 20, "it is lost", second.tail)
    assert reported_twice(endpoint) == []


def test_a_job_that_was_retried_before_the_sidecar_was_killed(
    endpoint: Endpoint, sidecar: Callable[..., Sidecar], start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    """The next sidecar receives only its end: taken for another attempt's, it would leave the job active for ever."""
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
    record = record_of_events(endpoint.jobs()[job])
    assert (record["state"], record["attempt"]) == ("completed", 2)
    assert [entry["state"] for entry in record["stateHistory"]] == [
        *("queued", "active", "retrying"),
        *("active", "completed"),
    ]


def test_a_standby_continues_after_the_active_one(
    endpoint: Endpoint, sidecar: Callable[..., Sidecar], start_worker: Callable[..., WorkerProcess]
) -> None:
    """Otherwise two sidecars would each receive half of a job's events, or one that dies would lose some."""
    worker = start_worker(broker="rabbitmq", agent=False, args=["-E"])
    first, second = sidecar(*DURABLE), sidecar(*DURABLE)
    before = send(worker.broker, 50)
    wait_until(lambda: are_reported(endpoint, before), 20, "the active one does not report", first.tail)
    assert first.terminate() == 0
    after = send(worker.broker, 50)
    wait_until(lambda: are_reported(endpoint, after), 20, "the standby does not report", second.tail)
    assert reported_twice(endpoint) == []


def test_a_standby_does_not_report_ended_jobs_as_lost(
    endpoint: Endpoint, sidecar: Callable[..., Sidecar], start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    """It inspected the running jobs, whose ends the active one reported: each deployment would make them `unknown`."""
    worker = start_worker(broker="rabbitmq", agent=False, args=["-E"])
    first = sidecar(*DURABLE)
    release = tmp_path / "release"
    job = worker.broker.app().send_task("tests.integration.tasks.hold", [str(tmp_path / "started"), str(release)]).id
    wait_until(lambda: "active" in endpoint.states(job), 20, "the job does not begin", worker.tail)
    second = sidecar(*DURABLE)
    wait_until(lambda: any("job" in event for event in endpoint.duplicates), 20, "it does not inspect", second.tail)
    release.touch()
    wait_until(lambda: are_reported(endpoint, [job]), 20, "the active one does not report", first.tail)
    assert first.terminate() == 0
    later = (
        worker.broker.app().send_task("tests.integration.tasks.noop", countdown=10).id
    )  # the worker is idle until then
    wait_until(lambda: "completed" in endpoint.states(later), 30, "the standby does not report", second.tail)
    assert are_reported(endpoint, [job])


def test_nothing_is_reported_again_after_a_broker_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each restart of the broker would add runs that never happened."""
    server = RabbitMQServer(tmp_path / "rabbitmq")
    try:
        with running_monitor(server.url(), durable=DurableQueue("kept", 1_000, 600.0)) as seen:
            with monkeypatch.context() as patch:
                patch.setattr(Durable, "ack_through", lambda *_: None)  # the broker stops before it is acknowledged
                jobs = publish(server.url(), 200)
                wait_until(lambda: seen.has_reported(jobs), 10, "events are missing", seen.monitor.state)
                server.stop()
            server.start()
            seen.wait_until_connected()
            more = publish(server.url(), 20)
            wait_until(lambda: seen.has_reported(more), 20, "events are missing", seen.monitor.state)
            assert [job for job in jobs + more if len(seen.states(job)) != 3] == []
        assert seen.dropped == {}
    finally:
        server.close()


def test_events_that_can_not_be_written_stay_in_the_broker(rabbitmq_vhost: RabbitMQVhost) -> None:
    """Otherwise a full disk would lose events that the broker would have kept."""
    room = [True]
    with running_monitor(
        rabbitmq_vhost.url(), durable=DurableQueue(DURABLE[1], 1_000, 600.0), can_keep=lambda: room[0]
    ) as seen:
        before = publish(rabbitmq_vhost.url(), 10)
        wait_until(lambda: seen.has_reported(before), 10, "events are missing", seen.monitor.state)
        room[0] = False
        meanwhile = publish(rabbitmq_vhost.url(), 500)
        wait_until(lambda: seen.monitor.state().read_ahead_bytes > 10_000, 10, "nothing is read", seen.monitor.state)
        assert not any(map(seen.states, meanwhile))
        room[0] = True
        wait_until(lambda: seen.has_reported(meanwhile), 10, "events are missing", seen.monitor.state)


def test_on_redis_it_is_refused_with_what_to_do_instead(
    brokers: Callable[[str], Broker], sluice_env: dict[str, str]
) -> None:
    """Otherwise a user would rely on a promise that Redis can't keep."""
    broker = brokers("redis")
    ended = command(python_env(broker, sluice_env), "monitor", "--broker", broker.url, *DURABLE)
    assert ended.returncode == 2
    assert "--durable needs RabbitMQ" in ended.stderr
    assert "sluice_agent.auto" in ended.stderr


def test_a_queue_with_other_numbers(
    brokers: Callable[[str], Broker], sluice_env: dict[str, str], tmp_path: Path
) -> None:
    """RabbitMQ changes no queue: a log of lost connections would not show that the option is the reason."""
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
        wait_until(lambda: "was made with other numbers" in other.logs(), 20, "nothing is logged", other.tail)
        assert "inequivalent arg" in other.logs()
        assert "The connection to the broker is lost" not in other.logs()
        with pytest.raises(HTTPError) as caught:
            urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10)
        assert "since its start" in caught.value.read().decode()
        channel.queue_delete(name)
        wait_until(lambda: "Listening to the events" in other.logs(), 20, "it does not try again", other.tail)
    finally:
        other.stop()
        channel.queue_delete(name)
        link.release()
