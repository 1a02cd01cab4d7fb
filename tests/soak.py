"""`make soak`: a worker, a producer and an unreliable endpoint, for minutes or for hours.

Samples the worker's resources (memory, file descriptors, threads, the journal's directory), prints a table, and fails
if the last third used more than the first, beyond a limit; or if an event is missing at the end.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import psutil

from tests.support.accounting import assert_balanced
from tests.support.brokers import redis_broker
from tests.support.capture_log import CAPTURE_LOG
from tests.support.endpoint import Endpoint
from tests.support.ingest_server import Exchange
from tests.support.misbehaviour import (
    Behaviour,
    drips_headers,
    hangs,
    html,
    lost_answer,
    ok,
    reset_mid_answer,
    status,
    too_many,
)
from tests.support.process import Process
from tests.support.producer import Producer
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

MINUTES = float(os.environ.get("SOAK_MINUTES", "3"))
SAMPLE_SECONDS = max(2.0, MINUTES * 60 / 200)  # seconds between two samples
WARM_UP = 0.2  # of the time, whose samples don't count
MAX_STATE_SECONDS = 15.0  # between two changes of the endpoint's state
LONGEST_BACKOFF = 60.0  # seconds that the shipper may wait after the endpoint has recovered
BEHAVIOURS: list[Behaviour] = [
    status(500),
    status(503),
    too_many("1"),
    html(),
    lost_answer,
    reset_mid_answer,
    hangs(),
    drips_headers(),
    ok,
]
LIMIT = 4_000_000  # bytes of the journal: it is reached while the endpoint is unavailable
SENDS = """
    from tests.faults.app import app, noop
    from tests.integration.tasks import fail
    import itertools, time
    with app.producer_pool.acquire() as producer:
        for number in itertools.count():
            task = fail if number % 10 == 0 else noop
            task.apply_async(producer=producer, ignore_result=True)
            time.sleep(0.01)
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The resources of the worker and its children at one time."""

    seconds: float
    megabytes: float
    descriptors: int
    threads: int
    directory_kb: float
    files: int
    delivered: int


ALLOWED = {"megabytes": (1.10, 8), "descriptors": (1.0, 16), "threads": (1.0, 1)}
"""The allowed growth from the first third to the last: a factor, and an amount added to it.

A batch that waits for the endpoint keeps its files open: descriptors follow the endpoint's states.
"""
LEFT_OVER = 8  # files that may remain when everything is delivered: cursors, locks


class UnreliableEndpoint:
    """Switches an endpoint between working, faulty and unavailable, for some seconds each."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._random = random.Random(5)
        self._until = 0.0

    def update(self) -> None:
        """Change the state, if its time is over."""
        now = time.monotonic()
        if now < self._until:
            return
        self._until = now + self._random.uniform(MAX_STATE_SECONDS / 5, MAX_STATE_SECONDS)
        self._endpoint.up()
        self._endpoint.release()
        state = self._random.choice(["working", "working", "unavailable", "faulty"])
        self._endpoint.standing()
        if state == "unavailable":
            self._endpoint.down()
        elif state == "faulty":
            self._endpoint.standing(self._any_behaviour)

    def _any_behaviour(self, exchange: Exchange) -> bool:
        return self._random.choice(BEHAVIOURS)(exchange)

    def recover(self) -> None:
        """Make the endpoint work for good."""
        self._endpoint.up()
        self._endpoint.release()
        self._endpoint.standing()


def sample(worker: WorkerProcess, journal: Path, endpoint: Endpoint, begun: float) -> Sample:
    """Return the present resources."""
    main = psutil.Process(worker.pid)
    processes = [main, *main.children(recursive=True)]
    sizes = [path.stat().st_size for path in journal.rglob("*") if path.is_file()]
    return Sample(
        round(time.monotonic() - begun, 1),
        round(sum(process.memory_full_info().uss for process in processes) / 1e6, 1),
        sum(process.num_fds() for process in processes),
        sum(process.num_threads() for process in processes),
        round(sum(sizes) / 1e3, 1),
        len(sizes),
        len(endpoint.events),
    )


def growth_faults(samples: list[Sample]) -> list[str]:
    """Print the medians; return a sentence for each resource that has grown."""
    warm = [sample for sample in samples if sample.seconds >= samples[-1].seconds * WARM_UP]
    third = len(warm) // 3
    faults = []
    for name, (factor, more) in ALLOWED.items():
        first, last = (
            statistics.median(getattr(sample, name) for sample in part) for part in (warm[:third], warm[-third:])
        )
        print(f"soak: {name}: {first:g} in the first third, {last:g} in the last")
        if last > first * factor + more:
            faults.append(f"{name} have grown from {first:g} to {last:g}")
    largest = max(sample.directory_kb for sample in samples)
    print(f"soak: the directory took {largest:g} kB at the most")
    if largest > LIMIT / 1e3 * 1.05:
        faults.append(f"the directory took {largest:g} kB, and {LIMIT / 1e3:g} are allowed")
    return faults


def sample_or_none(take: Callable[[], Sample]) -> Sample | None:
    """Return a sample; None if a process or a file was removed meanwhile."""
    try:
        return take()
    except (psutil.NoSuchProcess, FileNotFoundError):
        return None


def soak(directory: Path, redis: RedisServer, endpoint: Endpoint) -> list[str]:
    """Run for `MINUTES`; return the faults."""
    connection = str(uuid.uuid4())
    env = {
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": connection,
        "SLUICE_API_URL": endpoint.url,
        "SLUICE_STATE_DIR": str(directory),
        "SLUICE_HEARTBEAT_INTERVAL": "1",
        "SLUICE_JOURNAL_MAX_BYTES": str(LIMIT),
        CAPTURE_LOG: str(directory / "capture.log"),
    }
    broker = redis_broker(redis, {"task_ignore_result": True})
    worker = WorkerProcess(
        directory, broker, app="tests.faults.app", env=env, args=["--max-tasks-per-child=500"], forks=False
    )
    sender: Process = Producer(directory, broker, env={**env, "SLUICE_SHIP": "never"}).start(SENDS)
    unreliable, samples, begun = UnreliableEndpoint(endpoint), [], time.monotonic()
    print(" ".join(f"{field.name:>16}" for field in fields(Sample)))
    try:
        while time.monotonic() - begun < MINUTES * 60:
            unreliable.update()
            if taken := sample_or_none(lambda: sample(worker, directory / connection, endpoint, begun)):
                samples.append(taken)
                print(" ".join(f"{value:>16}" for value in astuple(taken)), flush=True)
            time.sleep(SAMPLE_SECONDS)
            assert worker.running, worker.tail()
        unreliable.recover()
        sender.stop()
        wait_until(
            lambda: assert_balanced(worker.env)["pending"] == 0,
            2 * LONGEST_BACKOFF,
            "events are still pending",
            worker.tail,
        )
        assert worker.terminate().code == 0
        print(f"soak: {assert_balanced(worker.env, endpoint, killed=1)}")
    finally:
        sender.stop()
        worker.teardown()
    left = sorted(path.name for path in (directory / connection).iterdir())
    return [*growth_faults(samples), *endpoint.faults, *([f"files are left: {left}"] if len(left) > LEFT_OVER else [])]


def main() -> None:
    """Exit with 1 if a resource has grown or an event is missing."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        directory = Path(name)
        (directory / "redis").mkdir()
        redis, endpoint = RedisServer(directory / "redis"), Endpoint()
        try:
            faults = soak(directory, redis, endpoint)
        finally:
            endpoint.close()
            redis.close()
    for fault in faults:
        print(f"soak: {fault}", file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
