"""The sidecar as its users start it: a separate process beside a cluster that is not changed for it."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.misbehaviour import status
from tests.support.process import Process
from tests.support.python_forks import run_fork
from tests.support.waiting import wait_until
from tests.support.worker import APP, WorkerProcess, python_env

MONITOR = ("-m", "sluice_agent", "monitor")
CELERY = ("-m", "celery", "-A", APP, "sluice")
DONE = ["queued", "active", "completed"]


@pytest.fixture
def run(tmp_path: Path, sluice_env: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """`run(broker, *command, wrapper=…)`: a connected sidecar; all are stopped after the test."""
    started: list[Process] = []

    def start(
        broker: Broker, *command: str, wrapper: tuple[str, ...] = (), env: dict[str, str] | None = None
    ) -> Process:
        settings = python_env(broker, {**sluice_env, "SLUICE_BROKER_URL": broker.url, **(env or {})})
        log = tmp_path / f"sidecar-{len(started)}.log"
        started.append(process := Process([*wrapper, sys.executable, *command], log, settings))

        def listens() -> bool:
            if not process.running:
                pytest.fail(f"the sidecar ended with {process.exit_code}\n{process.tail()}", pytrace=False)
            return "Listening to the events" in process.logs()

        wait_until(listens, 40, "the sidecar does not connect", process.tail)
        return process

    yield start
    for process in started:
        process.stop()


def refused(env: dict[str, str], *args: str) -> str:
    """Return the error output of a `sluice-agent monitor` that does not start."""
    ended = run_fork([sys.executable, *MONITOR, *args], env, 60)
    assert ended.returncode == 2, ended.stderr
    return ended.stderr


@pytest.mark.parametrize("command", [MONITOR, CELERY], ids=["sluice-agent monitor", "celery sluice"])
@pytest.mark.parametrize("broker_name", ["redis", "rabbitmq"])
def test_a_cluster_is_reported_without_a_change_to_it(
    endpoint: Endpoint,
    brokers: Callable[[str], Broker],
    broker_name: str,
    command: tuple[str, ...],
    run: Callable[..., Process],
    start_worker: Callable[..., WorkerProcess],
) -> None:
    """The workers run without -E and without the agent: otherwise a user would have to change and restart them."""
    broker = brokers(broker_name)
    worker = start_worker(broker=broker, agent=False)
    sidecar = run(broker, *command, env={"SLUICE_QUEUE_INTERVAL": "0.5", "SLUICE_TEST_INSTALL": "0"})
    wait_until(lambda: worker.hostname in endpoint.workers(), 20, "the worker is not reported", sidecar.tail)
    app = broker.app()
    jobs = [app.send_task("tests.integration.tasks.add", (1, 2)).id for _ in range(20)]
    wait_until(lambda: all(endpoint.states(job) == DONE for job in jobs), 20, "jobs are missing", sidecar.tail)
    wait_until(lambda: broker.queue in endpoint.queues(), 20, "the queue is not reported", sidecar.tail)
    assert {event["job"]["name"] for job in jobs for event in endpoint.jobs()[job]} == {"tests.integration.tasks.add"}
    assert endpoint.duplicates == []


def test_an_instrumented_app_is_not_reported_twice(
    endpoint: Endpoint,
    brokers: Callable[[str], Broker],
    run: Callable[..., Process],
    start_worker: Callable[..., WorkerProcess],
) -> None:
    """`celery -A app sluice` imports an app that installs the agent, but must not report itself as a worker."""
    broker = brokers("redis")
    worker = start_worker(broker=broker)
    sidecar = run(broker, *CELERY)
    jobs = [broker.app().send_task("tests.integration.tasks.add", (1, 2)).id for _ in range(5)]
    wait_until(lambda: all(endpoint.states(job) == DONE for job in jobs), 20, "jobs are missing", sidecar.tail)
    sidecar.send(signal.SIGTERM)
    assert sidecar.wait() == 0
    assert worker.terminate().code == 0
    reports = [
        (event["worker"]["externalId"], event["worker"]["state"])
        for events in endpoint.workers().values()
        for event in events
    ]
    assert {name for name, _ in reports} == {worker.hostname}
    assert reports.count((worker.hostname, "online")) == reports.count((worker.hostname, "offline")) == 1


def test_an_eta_that_passes_before_a_worker_starts_is_reported_once(
    endpoint: Endpoint,
    brokers: Callable[[str], Broker],
    run: Callable[..., Process],
    start_worker: Callable[..., WorkerProcess],
) -> None:
    """The producer has no agent: monitor and worker, which have only the ETA, would each report a different state."""
    broker = brokers("redis")
    sidecar = run(broker, *MONITOR)
    eta = datetime.now(timezone.utc) + timedelta(seconds=0.5)
    job = broker.app().send_task("tests.integration.tasks.add", (1, 2), eta=eta).id
    wait_until(lambda: datetime.now(timezone.utc) > eta)
    worker = start_worker(broker=broker, args=["-E"])
    wait_until(lambda: "completed" in endpoint.states(job), 20, "the job does not run", worker.tail)
    assert worker.terminate().code == 0
    sidecar.send(signal.SIGTERM)
    assert sidecar.wait() == 0
    assert endpoint.states(job) == ["scheduled", "active", "completed"]


def test_no_enable_events_leaves_workers_unchanged(
    endpoint: Endpoint,
    brokers: Callable[[str], Broker],
    run: Callable[..., Process],
    start_worker: Callable[..., WorkerProcess],
) -> None:
    """Otherwise a trial of the sidecar on a production cluster would load the broker with every task's events."""
    broker = brokers("redis")
    worker = start_worker(broker=broker, agent=False)
    sidecar = run(broker, *MONITOR, "--no-enable-events")
    wait_until(lambda: worker.hostname in endpoint.workers(), 20, "the worker is not reported", sidecar.tail)
    job = broker.app().send_task("tests.integration.tasks.add", (1, 2)).id
    wait_until(lambda: f"[{job}] succeeded" in worker.logs(), 20, "the task does not run", worker.tail)
    sidecar.send(signal.SIGTERM)
    assert sidecar.wait() == 0
    assert endpoint.jobs() == {}


def test_an_app_with_another_event_exchange(
    endpoint: Endpoint,
    brokers: Callable[[str], Broker],
    run: Callable[..., Process],
    start_worker: Callable[..., WorkerProcess],
) -> None:
    """Otherwise a sidecar on the wrong exchange would receive nothing for ever, and the log would not show it."""
    broker = brokers("redis").with_conf(event_exchange="own-events")
    worker = start_worker(broker=broker, agent=False, args=["-E"])
    wrong_exchange = run(broker, *MONITOR)
    wait_until(
        lambda: "sluice-agent monitor --event-exchange" in wrong_exchange.logs(),
        30,
        "it logs nothing",
        wrong_exchange.tail,
    )
    assert endpoint.workers() == {}
    wrong_exchange.stop()
    for command in ((*MONITOR, "--event-exchange", "own-events"), CELERY):
        sidecar = run(broker, *command, env={"SLUICE_TEST_INSTALL": "0"})
        job = broker.app().send_task("tests.integration.tasks.add", (1, 2)).id
        wait_until(lambda job=job: endpoint.states(job) == DONE, 20, "the job is not reported", sidecar.tail)
        sidecar.stop()
    assert worker.terminate().code == 0


def test_sigterm_drains_and_sighup_does_nothing(
    endpoint: Endpoint,
    brokers: Callable[[str], Broker],
    run: Callable[..., Process],
    start_worker: Callable[..., WorkerProcess],
    sluice_env: dict[str, str],
) -> None:
    """Otherwise each deployment of the sidecar would lose the events that it was about to deliver."""
    broker = brokers("redis")
    start_worker(broker=broker, agent=False, args=["-E"])
    sidecar = run(broker, *MONITOR, "--log-format", "json")
    sidecar.send(signal.SIGHUP)
    endpoint.standing(status(503))
    jobs = [broker.app().send_task("tests.integration.tasks.add", (1, 2)).id for _ in range(20)]
    journal = Path(sluice_env["SLUICE_STATE_DIR"])
    wait_until(
        lambda: all(
            any(f'{job}","attempt":1' in line and '"completed"' in line for line in _lines(journal)) for job in jobs
        ),
        30,
        "the jobs are not in the journal",
    )
    wait_until(lambda: endpoint.requests, 30, "nothing is sent")
    assert sidecar.running
    endpoint.standing()
    sidecar.send(signal.SIGTERM)
    assert sidecar.wait(15) == 0
    assert all(endpoint.states(job) == DONE for job in jobs)
    lines = [json.loads(line) for line in sidecar.logs().splitlines()]
    assert {"time", "level", "logger", "message"} <= lines[0].keys()
    assert "Listening" in "".join(line["message"] for line in lines)


def _lines(journal: Path) -> list[str]:
    return "".join(file.read_text() for file in journal.rglob("*.ndjson")).splitlines()


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs util-linux")
def test_the_first_process_of_a_container_ends_on_sigterm(
    brokers: Callable[[str], Broker], run: Callable[..., Process]
) -> None:
    """The kernel sends deadly signals to process 1 only if it has a handler: otherwise a pod is killed after 30 s."""
    wrapper = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")
    sidecar = run(brokers("redis"), *MONITOR, wrapper=wrapper)
    [inner] = sidecar.children()
    inner.send_signal(signal.SIGTERM)
    assert sidecar.wait(15) == 0


def test_a_missing_setting_is_reported_in_a_sentence(
    brokers: Callable[[str], Broker], sluice_env: dict[str, str]
) -> None:
    """Otherwise a sidecar that can't work would run, or end with a traceback."""
    env = python_env(brokers("redis"), sluice_env)
    assert "name the broker" in refused(env)
    url = ("--broker", brokers("redis").url)
    assert "SLUICE_API_KEY is not set" in refused({**env, "SLUICE_API_KEY": ""}, *url)
    assert "--transport-options" in refused(env, *url, "--transport-options", "[1")
