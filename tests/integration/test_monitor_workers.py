"""Workers without agents as a monitor sees them: many, killed, and shut down in the middle of a job."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.outcomes.held import Held, walk_of
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


@pytest.fixture
def start_sidecar(sluice_env: dict[str, str], brokers: Brokers, tmp_path: Path) -> Iterator[MakeSidecar]:
    """`start_sidecar(broker, **env)`: a monitor that listens; all are ended with the test."""
    sidecars: list[Sidecar] = []

    def start(broker: str = "redis", **env: str) -> Sidecar:
        sidecars.append(sidecar := Sidecar(tmp_path, brokers(broker), {**sluice_env, **env}))
        return sidecar

    yield start
    for sidecar in sidecars:
        sidecar.stop()


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
    job = Held(producer(broker, agent=False), tmp_path, endpoint, "hold_late")
    job.told("queued active")
    worker.kill()
    job.told("queued active unknown", context=worker.tail)
    wait_until(lambda: words(endpoint, worker.hostname)[-1] == "offline", 10, "not offline")
    job.release()
    worker.start_again()
    job.told("queued active unknown active completed", context=worker.tail)
    assert words(endpoint, worker.hostname).count("online") == 2
    assert endpoint.duplicates == []


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_warm_shutdown(
    start_sidecar: MakeSidecar,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    endpoint: Endpoint,
    tmp_path: Path,
    pool: str,
) -> None:
    """A deployment waits for the jobs that run: they have ended, and are not lost."""
    start_sidecar()
    worker = start_worker(pool=pool, concurrency=1, args=["-E"], agent=False)
    job = Held(producer(agent=False), tmp_path, endpoint)
    job.told("queued active")
    worker.kill("SIGTERM")
    wait_until(lambda: "Warm shutdown" in worker.logs(), 10, "no warm shutdown", worker.tail)
    job.release()
    assert worker.process.wait(30) == 0
    job.told("queued active completed", context=worker.tail)
    wait_until(lambda: words(endpoint, worker.hostname)[-1] == "offline", 10, "not offline")
    assert walk_of(endpoint, job.id) == "queued active completed"
