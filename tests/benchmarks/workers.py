"""Workers and producers that run side by side on one broker: several instances of each variant, in turns.

Two processes of one variant differ by their memory layout for their whole life, so several instances are measured. The
order is reversed in each round, so that a machine whose speed drifts changes all alike. The CPU time of all threads of
all processes counts, but not that of the broker and of the endpoint.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import psutil
import redis

from tests.benchmarks.cpu import cpu_microseconds, tree
from tests.benchmarks.endpoint import LightEndpoint
from tests.benchmarks.event_listener import EventListener
from tests.benchmarks.variants import Variant
from tests.support.process import ROOT
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until

Samples = dict[str, list[list[float]]]
"""Figures by the name of a variant, by instance and by round."""

Progress = Callable[[str], None]
_TASK_TIMEOUT = 120.0  # seconds, for all tasks of a turn


class Memory(NamedTuple):
    """Bytes that belong to a process alone: those of a worker's main process, and of the largest of its children."""

    main: int
    child: int | None


class Producer:
    """A producer with its own Redis database and its own endpoint."""

    def __init__(self, directory: Path, url: str, variant: Variant) -> None:
        self.variant = variant
        self.published = 0
        self.endpoint = LightEndpoint(variant.marks)
        directory.mkdir(mode=0o700)
        self._client = redis.Redis.from_url(url)
        self._cwd = ROOT if variant.environment is None else directory
        self._environment = {
            **variant.variables(self.endpoint.url),
            "BROKER_URL": url,
            "SLUICE_CONNECTION_ID": str(uuid.uuid4()),
            "SLUICE_STATE_DIR": str(directory),
        }
        self._producer = subprocess.Popen(
            [variant.python, "-m", "tests.benchmarks.publisher"],
            cwd=self._cwd,
            env={**self._environment, "BENCH_ROLE": "producer"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def publish(self, tasks: int) -> Mapping[str, float]:
        """Publish, and return the durations of the calls."""
        assert self._producer.stdin is not None
        assert self._producer.stdout is not None
        print(tasks, file=self._producer.stdin, flush=True)
        durations: Mapping[str, float] = json.loads(self._producer.stdout.readline())
        self.published += tasks
        return durations

    def discard(self) -> None:
        """Remove the tasks that wait."""
        self._client.delete("celery")

    def close(self) -> None:
        """End it."""
        assert self._producer.stdin is not None
        self._producer.stdin.close()
        try:
            self._producer.wait(10)
        except subprocess.TimeoutExpired:
            self._producer.kill()
        self.endpoint.close()


class MeasuredWorker(Producer):
    """A worker and its producer."""

    def __init__(self, directory: Path, url: str, variant: Variant, pool: str, warm_up: int) -> None:
        super().__init__(directory, url, variant)
        self._listener = EventListener(url, self.endpoint.received) if "-E" in variant.options else None
        command = [variant.python, "-m", "celery", "-A", "tests.benchmarks.app", "worker", "-P", pool, "-c", "2"]
        with (directory / "worker.log").open("wb") as log:
            self._worker = subprocess.Popen(
                [*command, "-l", "warning", *variant.options],
                cwd=self._cwd,
                env={**self._environment, "BENCH_ROLE": "worker"},
                stdout=log,
                stderr=log,
            )
        try:
            self.run(warm_up)
        except BaseException:
            self.close()
            raise

    def run(self, tasks: int) -> float:
        """Publish while the worker is stopped, so that neither disturbs the other, then let it run until all is sent.

        Return the microseconds of CPU for each task, of the worker and the producer together.
        """
        for process in tree(self._worker.pid):
            process.suspend()
        before = self._cpu()
        self.publish(tasks)
        for process in tree(self._worker.pid):
            process.resume()
        wait_until(self._is_idle, _TASK_TIMEOUT, f"the worker of {self.variant.name} did not run all tasks")
        time.sleep(self.variant.settle_seconds)
        return (self._cpu() - before) / tasks

    def memory(self) -> Memory:
        """Return what the worker's processes use."""
        main, *children = (process.memory_full_info().uss for process in tree(self._worker.pid))
        return Memory(main, max(children, default=None))

    def close(self) -> None:
        """End both."""
        psutil.Process(self._worker.pid).resume()
        self._worker.terminate()
        try:
            self._worker.wait(30)
        except subprocess.TimeoutExpired:
            self._worker.kill()
        if self._listener is not None:
            self._listener.close()
        super().close()

    def _cpu(self) -> float:
        return cpu_microseconds(self._worker.pid) + cpu_microseconds(self._producer.pid)

    def _is_idle(self) -> bool:
        return not self._client.llen("celery") and not self._client.hlen("unacked")


def measured_worker(directory: Path, url: str, variant: Variant, pool: str, warm_up: int) -> MeasuredWorker:
    """Start a worker, as `side_by_side` does with its pool and warm-up."""
    return MeasuredWorker(directory, url, variant, pool, warm_up)


class Closable(Protocol):
    """What runs side by side."""

    def close(self) -> None:
        """End it."""


One = TypeVar("One", bound=Closable)


class Instance(NamedTuple, Generic[One]):
    """One of several of a variant."""

    variant: Variant
    number: int
    one: One


@contextmanager
def side_by_side(
    directory: Path,
    variants: Sequence[Variant],
    instances: int,
    start: Callable[[Path, str, Variant], One],
) -> Iterator[list[Instance[One]]]:
    """Start `instances` of each variant, in turns, each with its own database of one Redis."""
    with ExitStack() as stack:
        server = RedisServer(directory / "redis")
        stack.callback(server.close)
        running: list[Instance[One]] = []
        for number in range(instances):
            for variant in variants if number % 2 == 0 else variants[::-1]:
                index = len(running)
                one = start(directory / f"instance-{index}", server.url(index), variant)
                stack.callback(one.close)
                running.append(Instance(variant, number, one))
        yield running


def rounds(
    running: Sequence[Instance[One]], count: int, measure: Callable[[One], float], label: str, progress: Progress
) -> Samples:
    """Measure each instance once in a round, in an order that is reversed from round to round."""
    samples: Samples = {}
    for variant, _, _ in running:
        samples.setdefault(variant.name, []).append([])
    for turn in range(count):
        for variant, number, one in running if turn % 2 == 0 else running[::-1]:
            samples[variant.name][number].append(measure(one))
        latest = "  ".join(
            f"{name} {' '.join(f'{instance[-1]:.0f}' for instance in instances)}" for name, instances in samples.items()
        )
        progress(f"{label:<8} round {turn + 1:>2}/{count}  {latest}")
    return samples
