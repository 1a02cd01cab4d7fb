"""`make soak`: a worker, whoever sends it tasks, and an endpoint that comes and goes, for minutes or for hours.

Samples what the worker takes (memory, file descriptors, threads, the journal's folder), prints a table, and fails where
the last third took more than the first, beyond a line; and where an event is missing at the end.
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
EVERY = max(2.0, MINUTES * 60 / 200)  # seconds between two samples
WARM_UP = 0.2  # of the time, which is not judged
FLAP = 15.0  # seconds at the most between two moods of the endpoint
LONGEST_BACKOFF = 60.0  # seconds: so long may nothing be tried when the endpoint is well again
WAYS: list[Behaviour] = [
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
LIMIT = 4_000_000  # bytes of the journal: it is reached while the endpoint is away
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
    """What the worker and its children take at one moment."""

    seconds: float
    megabytes: float
    descriptors: int
    threads: int
    folder_kilobytes: float
    files: int
    told: int


ALLOWED = {"megabytes": (1.10, 8), "descriptors": (1.0, 16), "threads": (1.0, 1)}
"""How much more the last third may take than the first: a factor, and so much on top of it.

A batch that waits for the endpoint holds its files open: descriptors go up and down with the endpoint's moods.
"""
LEFT_OVER = 8  # files that may be left when everything is delivered: cursors, locks


class Moods:
    """An endpoint that is well, slow, wrong or away, each for some seconds."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._chance = random.Random(5)
        self._until = 0.0

    def turn(self) -> None:
        """Another mood, when it is time."""
        now = time.monotonic()
        if now < self._until:
            return
        self._until = now + self._chance.uniform(FLAP / 5, FLAP)
        self._endpoint.up()
        self._endpoint.release()
        mood = self._chance.choice(["well", "well", "away", "wrong"])
        self._endpoint.standing()
        if mood == "away":
            self._endpoint.down()
        elif mood == "wrong":
            self._endpoint.standing(self._any_way)

    def _any_way(self, exchange: Exchange) -> bool:
        return self._chance.choice(WAYS)(exchange)

    def end(self) -> None:
        """Well, for good."""
        self._endpoint.up()
        self._endpoint.release()
        self._endpoint.standing()


def sample(worker: WorkerProcess, journal: Path, endpoint: Endpoint, begun: float) -> Sample:
    """What is taken now."""
    main = psutil.Process(worker.pid)
    everybody = [main, *main.children(recursive=True)]
    sizes = [path.stat().st_size for path in journal.rglob("*") if path.is_file()]
    return Sample(
        round(time.monotonic() - begun, 1),
        round(sum(one.memory_full_info().uss for one in everybody) / 1e6, 1),
        sum(one.num_fds() for one in everybody),
        sum(one.num_threads() for one in everybody),
        round(sum(sizes) / 1e3, 1),
        len(sizes),
        len(endpoint.events),
    )


def judged(samples: list[Sample]) -> list[str]:
    """What has grown; prints the medians that it goes by."""
    warm = [one for one in samples if one.seconds >= samples[-1].seconds * WARM_UP]
    third = len(warm) // 3
    faults = []
    for name, (factor, more) in ALLOWED.items():
        first, last = (statistics.median(getattr(one, name) for one in part) for part in (warm[:third], warm[-third:]))
        print(f"soak: {name}: {first:g} in the first third, {last:g} in the last")
        if last > first * factor + more:
            faults.append(f"{name} have grown from {first:g} to {last:g}")
    most = max(one.folder_kilobytes for one in samples)
    print(f"soak: the folder took {most:g} kB at the most")
    if most > LIMIT / 1e3 * 1.05:
        faults.append(f"the folder took {most:g} kB, and {LIMIT / 1e3:g} are allowed")
    return faults


def quietly(look: Callable[[], Sample]) -> Sample | None:
    """A sample, unless a process or a file went away while it was taken."""
    try:
        return look()
    except (psutil.NoSuchProcess, FileNotFoundError):
        return None


def soak(directory: Path, redis: RedisServer, endpoint: Endpoint) -> list[str]:
    """Run for `MINUTES`; what is wrong."""
    connection = str(uuid.uuid4())
    env = {
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": connection,
        "SLUICE_API_URL": endpoint.url,
        "SLUICE_STATE_DIR": str(directory),
        "SLUICE_HEARTBEAT_INTERVAL": "1",
        "SLUICE_JOURNAL_MAX_BYTES": str(LIMIT),
        CAPTURE_LOG: str(directory / "witness"),
    }
    broker = redis_broker(redis, {"task_ignore_result": True})
    worker = WorkerProcess(directory, broker, app="tests.faults.app", env=env, args=["--max-tasks-per-child=500"])
    sender: Process = Producer(directory, broker, env={**env, "SLUICE_SHIP": "never"}).start(SENDS)
    moods, samples, begun = Moods(endpoint), [], time.monotonic()
    print(" ".join(f"{field.name:>16}" for field in fields(Sample)))
    try:
        while time.monotonic() - begun < MINUTES * 60:
            moods.turn()
            if found := quietly(lambda: sample(worker, directory / connection, endpoint, begun)):
                samples.append(found)
                print(" ".join(f"{value:>16}" for value in astuple(found)), flush=True)
            time.sleep(EVERY)
            assert worker.running, worker.tail()
        moods.end()
        sender.stop()
        wait_until(
            lambda: assert_balanced(worker.env)["pending"] == 0,
            2 * LONGEST_BACKOFF,
            "something still waits",
            worker.tail,
        )
        assert worker.terminate().code == 0
        print(f"soak: {assert_balanced(worker.env, endpoint, killed=1)}")
    finally:
        sender.stop()
        worker.teardown()
    left = sorted(path.name for path in (directory / connection).iterdir())
    return [*judged(samples), *endpoint.faults, *([f"files are left: {left}"] if len(left) > LEFT_OVER else [])]


def main() -> None:
    """Exit with 1 where something has grown or is missing."""
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
