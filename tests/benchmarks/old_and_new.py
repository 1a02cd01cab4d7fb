"""`make bench ARGS="--compare REV"`: the costs of a task, an event and an import at REV and in this checkout.

The two versions are measured in one execution and in turns, whose order is reversed in each round. Each version has
several instances, because two equal processes differ: their spread is the noise in the report. If a turn needs a new
process, as for the sidecar and an import, the turns are distributed to the instances.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.comparison import Comparison, compare
from tests.benchmarks.endpoint import LightEndpoint
from tests.benchmarks.event_cost import BROKERS, Sidecar
from tests.benchmarks.task_cost import AGENT, MeasuredWorker
from tests.benchmarks.versions import Version
from tests.support.servers import RedisServer

Samples = list[list[float]]
"""The costs of a version by instance and round."""

# Without the collector: its oldest generation takes 20 ms, and which of the two steps it falls into is chance.
_IMPORT = """
import gc, time
gc.disable()
from celery import Celery, signals
import celery.app.trace, celery.worker.request, celery.backends.base
started = time.process_time()
import sluice_agent
imported = time.process_time()
sluice_agent.install()
print((imported - started) * 1e3, (time.process_time() - imported) * 1e3)
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The size of the measurement: a larger one takes longer and has less noise."""

    instances: int
    rounds: int
    tasks: int
    event_tasks: int


def tasks(
    versions: Sequence[Version], pools: Sequence[str], sizes: Sizes, progress: Callable[[str], None]
) -> Iterator[tuple[str, Comparison]]:
    """Compare the cost of a no-op task in microseconds of CPU, worker and producer together, by pool."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        server, endpoint = RedisServer(directory), LightEndpoint()
        stack.callback(server.close)
        stack.callback(endpoint.close)
        for pool in pools:
            with _workers(directory, server, endpoint, pool, versions, sizes.instances) as workers:
                samples = _no_samples(versions, sizes.instances)
                for turn in range(sizes.rounds):
                    order = workers if turn % 2 == 0 else workers[::-1]
                    for version, instance, worker in order:
                        samples[version.name][instance].append(worker.run(sizes.tasks).together)
                    latest = "  ".join(
                        f"{version} {' '.join(f'{rounds[-1]:.0f}' for rounds in instances)}"
                        for version, instances in samples.items()
                    )
                    progress(f"{pool:<8} round {turn + 1:>2}/{sizes.rounds}  {latest}")
            yield f"task, {pool}", compare(*samples.values())


@contextmanager
def _workers(
    directory: Path,
    server: RedisServer,
    endpoint: LightEndpoint,
    pool: str,
    versions: Sequence[Version],
    instances: int,
) -> Iterator[list[tuple[Version, int, MeasuredWorker]]]:
    """Start `instances` workers of each version, in turns, each with its own Redis database."""
    with ExitStack() as stack:
        workers = []
        for instance in range(instances):
            for version in versions if instance % 2 == 0 else versions[::-1]:
                database = len(workers)
                worker = MeasuredWorker(
                    directory / f"{pool}-{database}",
                    server.url(database),
                    endpoint,
                    pool,
                    AGENT,
                    version.environment,
                )
                stack.callback(worker.close)
                workers.append((version, instance, worker))
        yield workers


def events(
    versions: Sequence[Version], sizes: Sizes, progress: Callable[[str], None]
) -> Iterator[tuple[str, Comparison]]:
    """Compare the cost of an event in the sidecar in microseconds of CPU, by broker. Each turn is a new process."""
    for broker, server_class in BROKERS.items():
        with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
            directory = Path(name)
            server = server_class(directory / broker)
            stack.callback(server.close)
            samples = _no_samples(versions, sizes.instances)
            for turn in range(sizes.rounds):
                for version in versions if turn % 2 == 0 else versions[::-1]:
                    sidecar = Sidecar(directory / str(uuid.uuid4()), server.url(), version.environment)
                    try:
                        cost = sidecar.measure(server.url(), sizes.event_tasks)
                    finally:
                        sidecar.process.stop(10)
                    if cost.arrived != cost.published:
                        progress(f"{version.name}: {cost.arrived} of {cost.published} events arrived")
                    samples[version.name][turn % sizes.instances].append(cost.microseconds)
                latest = "  ".join(
                    f"{version} {instances[turn % sizes.instances][-1]:.1f}" for version, instances in samples.items()
                )
                progress(f"{broker:<8} round {turn + 1:>2}/{sizes.rounds}  {latest}")
            yield f"event, {broker}", compare(*samples.values())


def imports(versions: Sequence[Version], sizes: Sizes) -> Iterator[tuple[str, Comparison]]:
    """Compare the milliseconds of CPU of `import sluice_agent` and `install()` beside an imported Celery."""
    importing, installing = _no_samples(versions, sizes.instances), _no_samples(versions, sizes.instances)
    with tempfile.TemporaryDirectory() as directory:
        for version in versions:
            _import_times(version, directory)  # writes the byte code
        for turn in range(sizes.rounds * sizes.instances):
            for version in versions if turn % 2 == 0 else versions[::-1]:
                import_time, install_time = _import_times(version, directory)
                importing[version.name][turn % sizes.instances].append(import_time)
                installing[version.name][turn % sizes.instances].append(install_time)
    yield "import", compare(*importing.values())
    yield "install()", compare(*installing.values())


def _no_samples(versions: Sequence[Version], instances: int) -> dict[str, Samples]:
    return {version.name: [[] for _ in range(instances)] for version in versions}


def _import_times(version: Version, directory: str) -> tuple[float, float]:
    env = {
        **version.environment,
        "SLUICE_API_KEY": "sk_bench",
        "SLUICE_CONNECTION_ID": str(uuid.UUID(int=1)),
        "SLUICE_SHIP": "never",
        "SLUICE_STATE_DIR": directory,
    }
    command = [sys.executable, "-c", _IMPORT]
    output = subprocess.run(command, cwd=directory, env=env, check=True, capture_output=True, text=True).stdout
    import_time, install_time = map(float, output.split())
    return import_time, install_time
