"""The processor time of a no-op task: bare, with the agent, and with Celery's own events (`-E`).

Also with receivers of Celery's signals that do nothing: no program that uses the signals can cost less.

All processes count: the worker's main process, its pool and its shipper, and the producer; but not the broker and the
endpoint. The workers of a pool run in parallel and take turns of a second or two, so that a machine whose speed drifts
changes all alike; the medians of the turns count. While the producer publishes, the worker is stopped, so that neither
disturbs the other.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.benchmarks.cpu import cpu_microseconds, tree
from tests.benchmarks.endpoint import LightEndpoint
from tests.support.process import ROOT
from tests.support.servers import RedisServer

BARE, SIGNALS, AGENT, EVENTS = "bare", "signals", "sluice-agent", "Celery -E"
MODES = (BARE, SIGNALS, AGENT, EVENTS)

_PRODUCER = """
import sys, time
from tests.benchmarks.app import app, noop
with app.producer_pool.acquire() as producer:
    for line in sys.stdin:
        count = int(line)
        started = time.process_time()
        for _ in range(count):
            noop.apply_async(producer=producer)
        print((time.process_time() - started) * 1e6 / count, flush=True)
"""
_WARM_UP = 500  # tasks


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of processor time for each task."""

    worker: float
    producer: float

    @property
    def together(self) -> float:
        return self.worker + self.producer


class MeasuredWorker:
    """A worker and its producer, with their own database."""

    def __init__(
        self,
        directory: Path,
        url: str,
        endpoint: LightEndpoint,
        pool: str,
        mode: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start both; `environment` selects the version of the package, None this checkout."""
        directory.mkdir(mode=0o700)
        self._client = redis.Redis.from_url(url)
        env = {
            **(os.environ if environment is None else environment),
            "BROKER_URL": url,
            "BENCH_MODE": mode,
            "SLUICE_API_KEY": "sk_bench",
            "SLUICE_CONNECTION_ID": str(uuid.uuid4()),
            "SLUICE_API_URL": endpoint.url,
            "SLUICE_STATE_DIR": str(directory),
        }
        command = [sys.executable, "-m", "celery", "-A", "tests.benchmarks.app", "worker", "-P", pool, "-c", "2"]
        with (directory / "worker.log").open("wb") as log:
            self._worker = subprocess.Popen(
                [*command, "-l", "warning", *(["-E"] if mode == EVENTS else [])],
                cwd=ROOT if environment is None else directory,
                env=env,
                stdout=log,
                stderr=log,
            )
        self._producer = subprocess.Popen(
            [sys.executable, "-c", _PRODUCER],
            cwd=ROOT if environment is None else directory,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.run(_WARM_UP)

    def run(self, tasks: int) -> Cost:
        """Publish while the worker is stopped, then let it run until it has shipped its events."""
        for process in tree(self._worker.pid):
            process.suspend()
        print(tasks, file=self._producer.stdin, flush=True)
        producer = float(self._producer.stdout.readline())
        before = cpu_microseconds(self._worker.pid)
        for process in tree(self._worker.pid):
            process.resume()
        while self._client.llen("celery") or self._client.hlen("unacked"):
            time.sleep(0.02)
        time.sleep(2.2)  # two of the shipper's intervals: shipping belongs to the cost of the tasks
        return Cost((cpu_microseconds(self._worker.pid) - before) / tasks, producer)

    def close(self) -> None:
        """End both."""
        self._producer.stdin.close()
        self._worker.terminate()
        self._producer.wait(10)
        self._worker.wait(30)


def measure(pools: list[str], tasks: int, rounds: int, progress: Callable[[str], None]) -> dict[tuple[str, str], Cost]:
    """Return the median cost by pool and mode."""
    costs: dict[tuple[str, str], Cost] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        server, endpoint = RedisServer(directory), LightEndpoint()
        try:
            for base, pool in enumerate(pools):
                turns = _take_turns(directory, server, endpoint, pool, base * len(MODES), tasks, rounds, progress)
                for mode, samples in turns.items():
                    worker, producer = (statistics.median(part) for part in zip(*samples, strict=True))
                    costs[pool, mode] = Cost(worker, producer)
        finally:
            endpoint.close()
            server.close()
    return costs


def _take_turns(
    directory: Path,
    server: RedisServer,
    endpoint: LightEndpoint,
    pool: str,
    first_database: int,
    tasks: int,
    rounds: int,
    progress: Callable[[str], None],
) -> dict[str, list[tuple[float, float]]]:
    workers = {
        mode: MeasuredWorker(directory / f"{pool}-{number}", server.url(first_database + number), endpoint, pool, mode)
        for number, mode in enumerate(MODES)
    }
    samples: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
    try:
        for turn in range(rounds):
            for mode, worker in workers.items():
                cost = worker.run(tasks)
                samples[mode].append((cost.worker, cost.producer))
            row = "  ".join(f"{mode} {sum(costs[-1]):7.1f}" for mode, costs in samples.items())
            progress(f"{pool:<8} round {turn + 1:>2}/{rounds}  {row}")
    finally:
        for worker in workers.values():
            worker.close()
    return samples


def report(costs: dict[tuple[str, str], Cost]) -> str:
    """Return a table of the cost that each mode adds to the bare task, and the ratio of the agent's to that of `-E`."""
    lines = [f"{'pool':<9}{'mode':<14}{'worker':>9}{'producer':>10}{'together':>10}{'added':>9}   (µs of CPU a task)"]
    for pool in dict.fromkeys(pool for pool, _ in costs):
        bare = costs[pool, BARE].together
        for mode in MODES:
            cost = costs[pool, mode]
            row = f"{pool:<9}{mode:<14}{cost.worker:9.1f}{cost.producer:10.1f}{cost.together:10.1f}"
            lines.append(row + (f"{cost.together - bare:9.1f}" if mode != BARE else ""))
        ratio = (costs[pool, AGENT].together - bare) / (costs[pool, EVENTS].together - bare)
        lines.append(f"{pool:<9}the agent adds {ratio:.2f} of what -E adds")
    return "\n".join(lines)
