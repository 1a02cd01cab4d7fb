"""Workers without agents as a monitor sees them: many, and one that is killed. `outcomes.workers` has the others."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.integration.outcomes.held import HeldJob
from tests.support import heartbeats
from tests.support.brokers import Broker
from tests.support.endpoint import Endpoint
from tests.support.process import Process
from tests.support.producer import Producer
from tests.support.sidecar import Sidecar
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess, python_env

MANY = 2_000
BEATS = 10  # of each worker, in which the monitor's memory must not grow
MIB = 1024 * 1024
GROWTH = 4 * MIB  # what an allocator may still take in that time

Brokers = Callable[[str], Broker]
MakeSidecar = Callable[..., Sidecar]


def states(endpoint: Endpoint) -> Counter[tuple[str, ...]]:
    """How many workers were told to be in which states, one after another."""
    return Counter(tuple(event["worker"]["state"] for event in events) for events in endpoint.workers().values())


def words(endpoint: Endpoint, hostname: str) -> list[str]:
    """What was told of a worker."""
    return [event["worker"]["state"] for event in endpoint.workers().get(hostname, [])]


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_two_thousand_workers(
    start_sidecar: MakeSidecar, brokers: Brokers, endpoint: Endpoint, tmp_path: Path, broker: str
) -> None:
    """A large fleet costs a fixed amount of memory, and of each worker that dies it is told, and of no other."""
    sidecar = start_sidecar(broker)
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
        wait_until(lambda: states(endpoint) == half, 60, "not those that stopped are offline", sidecar.tail)
        assert monitor.memory_info().rss - memory < GROWTH
        assert memory < 100 * MIB
        assert sidecar.terminate() == 0
        assert states(endpoint) == half
    finally:
        fleet.stop()


@pytest.mark.parametrize("broker", ["rabbitmq"])
def test_a_killed_worker(
    start_sidecar: MakeSidecar,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    endpoint: Endpoint,
    tmp_path: Path,
    broker: str,
) -> None:
    """It is offline, and what it ran is unknown, until it runs again."""
    start_sidecar(broker)
    worker = start_worker(broker=broker, concurrency=1, args=["-E"], agent=False)
    job = HeldJob(producer(broker, agent=False), tmp_path, endpoint, "hold_late")
    job.wait_for_walk("queued active")
    worker.kill()
    job.wait_for_walk("queued active unknown", context=worker.tail)
    wait_until(lambda: words(endpoint, worker.hostname)[-1] == "offline", 10, "not offline")
    job.release()
    worker.start_again()
    job.wait_for_walk("queued active unknown active completed", context=worker.tail)
    assert words(endpoint, worker.hostname).count("online") == 2
    assert endpoint.duplicates == []


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_a_worker_without_events_is_told_to_send_them_each_time_it_starts(
    start_sidecar: MakeSidecar,
    start_worker: Callable[..., WorkerProcess],
    brokers: Brokers,
    endpoint: Endpoint,
    broker: str,
) -> None:
    """It comes online before it hears, and under a name that has answered before: its jobs of ten seconds were lost.

    Nobody would be woken when the last worker has gone, where it is not said that none takes from its queue any more.
    """
    sidecar = start_sidecar(broker, SLUICE_QUEUE_INTERVAL="0.5")
    app = brokers(broker).app()
    for starts, end in enumerate((WorkerProcess.terminate, WorkerProcess.kill, WorkerProcess.terminate), 1):
        worker = start_worker(broker=broker, name="one@test", pool="solo", agent=False)
        said = partial(_said_to_be_told, sidecar, starts)
        wait_until(said, 8, "the worker is not told to send events", sidecar.tail)
        job = app.send_task("tests.integration.tasks.add", (1, 2)).id
        wait_until(partial(_is_told, endpoint, job), 20, "the job is not told", sidecar.tail)
        queue = brokers(broker).queue
        wait_until(partial(_is_taken_from_by, endpoint, queue, 1), 10, "nobody takes from the queue", sidecar.tail)
        end(worker)
    wait_until(partial(_is_taken_from_by, endpoint, queue, 0), 15, "it is not said that nobody does", sidecar.tail)


def _is_taken_from_by(endpoint: Endpoint, queue: str, workers: int) -> bool:
    return bool(endpoint.queues()[queue][-1]["queue"]["consumers"] == workers)


def _is_told(endpoint: Endpoint, job: str) -> bool:
    return endpoint.states(job) == ["queued", "active", "completed"]


def _said_to_be_told(sidecar: Sidecar, times: int) -> bool:
    return sidecar.process.logs().count("Enabled task events") >= times
