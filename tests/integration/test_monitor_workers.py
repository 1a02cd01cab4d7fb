"""Workers without agents beside a monitor: many, and one that is killed. `outcomes.workers` has the others."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.integration.outcomes.running_job import RunningJob
from tests.support import heartbeats
from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.process import Process
from tests.support.producer import Producer
from tests.support.sidecar import Sidecar
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess, python_env

IS_LONG = os.environ.get("FAULTS") == "long"
MANY = 2_000 if IS_LONG else 400
BEATS = 10 if IS_LONG else 20  # heartbeats of each worker during which the monitor's memory must not grow
MIB = 1024 * 1024
GROWTH = 4 * MIB  # bytes that an allocator may still take in that time

Brokers = Callable[[str], Broker]
MakeSidecar = Callable[..., Sidecar]


def states(endpoint: Endpoint) -> Counter[tuple[str, ...]]:
    """Return the number of workers by their reported states in order."""
    return Counter(tuple(event["worker"]["state"] for event in events) for events in endpoint.workers().values())


def states_of(endpoint: Endpoint, hostname: str) -> list[str]:
    """Return the reported states of a worker in order."""
    return [event["worker"]["state"] for event in endpoint.workers().get(hostname, [])]


@pytest.mark.long
@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_many_workers(
    sluice_env: dict[str, str], brokers: Brokers, endpoint: Endpoint, tmp_path: Path, broker: str
) -> None:
    """A large fleet must cost a fixed amount of memory, and only the workers that die may be reported offline."""
    sidecar = Sidecar(tmp_path, brokers(broker), sluice_env, forks=False)  # a fork has the memory of what it came from
    halved = tmp_path / "halved"
    command = [sys.executable, "-m", heartbeats.__name__, str(MANY), str(halved)]
    fleet = Process(command, tmp_path / "fleet.log", python_env(brokers(broker), {"SLUICE_TEST_INSTALL": "0"}))
    try:
        wait_until(lambda: len(endpoint.workers()) == MANY, 60, "not all are online", fleet.tail)
        monitor = psutil.Process(sidecar.process.pid)
        memory = monitor.memory_info().rss
        beaten = len(fleet.logs().splitlines())
        wait_until(lambda: len(fleet.logs().splitlines()) >= beaten + BEATS, 120, "the fleet is too slow", fleet.tail)
        assert states(endpoint) == {("online",): MANY}
        halved.touch()
        half = {("online",): MANY // 2, ("online", "offline"): MANY // 2}
        wait_until(lambda: states(endpoint) == half, 60, "the stopped workers are not offline", sidecar.tail)
        assert monitor.memory_info().rss - memory < GROWTH
        assert memory < 100 * MIB
        assert sidecar.terminate() == 0
        assert states(endpoint) == half
    finally:
        fleet.stop()
        sidecar.stop()


@pytest.mark.parametrize("broker", ["rabbitmq"])
def test_a_killed_worker(
    start_sidecar: MakeSidecar,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    endpoint: Endpoint,
    tmp_path: Path,
    broker: str,
) -> None:
    """A user must see it offline, and its job unknown until it runs again."""
    start_sidecar(broker)
    worker = start_worker(broker=broker, concurrency=1, args=["-E"], agent=False)
    job = RunningJob(producer(broker, agent=False), tmp_path, endpoint, "hold_late")
    job.wait_for_walk("queued active")
    worker.kill()
    job.wait_for_walk("queued active unknown", context=worker.tail)
    wait_until(lambda: states_of(endpoint, worker.hostname)[-1] == "offline", 10, "not offline")
    job.release()
    worker.start_again()
    job.wait_for_walk("queued active unknown active completed", context=worker.tail)
    assert states_of(endpoint, worker.hostname).count("online") == 2
    assert endpoint.duplicates == []


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_a_worker_without_events_is_asked_for_them_each_time_it_starts(
    start_sidecar: MakeSidecar,
    start_worker: Callable[..., WorkerProcess],
    brokers: Brokers,
    endpoint: Endpoint,
    broker: str,
) -> None:
    """It is online before it receives commands, under a name that answered before: jobs of ten seconds were lost.

    And unless the monitor reports a queue without consumers, no alarm would be raised when the last worker is gone.
    """
    sidecar = start_sidecar(broker, SLUICE_QUEUE_INTERVAL="0.5")
    app = brokers(broker).app()
    for starts, end in enumerate((WorkerProcess.terminate, WorkerProcess.kill, WorkerProcess.terminate), 1):
        worker = start_worker(broker=broker, name="one@test", pool="solo", agent=False)
        enabled = partial(_has_enabled_events, sidecar, starts)
        wait_until(enabled, 8, "the worker is not asked to send events", sidecar.tail)
        job = app.send_task("tests.integration.tasks.add", (1, 2)).id
        wait_until(partial(_is_reported, endpoint, job), 20, "the job is not reported", sidecar.tail)
        queue = brokers(broker).queue
        wait_until(partial(_has_consumers, endpoint, queue, 1), 10, "the queue has no consumer", sidecar.tail)
        end(worker)
    wait_until(partial(_has_consumers, endpoint, queue, 0), 15, "the queue still has a consumer", sidecar.tail)


def _has_consumers(endpoint: Endpoint, queue: str, workers: int) -> bool:
    return bool(endpoint.queues()[queue][-1]["queue"]["consumers"] == workers)


def _is_reported(endpoint: Endpoint, job: str) -> bool:
    return endpoint.states(job) == ["queued", "active", "completed"]


def _has_enabled_events(sidecar: Sidecar, times: int) -> bool:
    return sidecar.process.logs().count("Enabled task events") >= times
