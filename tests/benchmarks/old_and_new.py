"""`make bench ARGS="--compare REV"`: the costs of a task, an event and an import at REV and in this checkout.

The two versions are measured in one execution and in turns, whose order is reversed in each round. Each version has
several instances, because two equal processes differ: their spread is the noise in the report. If a turn needs a new
process, as for the sidecar and an import, the turns are distributed to the instances.
"""

from __future__ import annotations

import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.benchmarks.comparison import Comparison, compare
from tests.benchmarks.event_cost import BROKERS, Sidecar
from tests.benchmarks.import_cost import measure_once
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.variants import AGENT, Variant
from tests.benchmarks.versions import Version
from tests.benchmarks.workers import Progress, Samples, measured_worker, rounds, side_by_side


def tasks(versions: Sequence[Version], sizes: Sizes, progress: Progress) -> Iterator[tuple[str, Comparison]]:
    """Compare the cost of a no-op task in microseconds of CPU, worker and producer together, by pool."""
    variants = [Variant(version.name, AGENT.venv, environment=version.environment) for version in versions]
    for pool in sizes.pools:
        start = partial(measured_worker, pool=pool, warm_up=sizes.warm_up)
        with (
            tempfile.TemporaryDirectory() as name,
            side_by_side(Path(name), variants, sizes.instances, start) as running,
        ):
            samples = rounds(running, sizes.rounds, lambda worker: worker.run(sizes.tasks), pool, progress)
        yield f"task, {pool}", compare(*samples.values())


def events(versions: Sequence[Version], sizes: Sizes, progress: Progress) -> Iterator[tuple[str, Comparison]]:
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
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for version in versions:
            measure_once(directory, version.environment, sys.executable)  # writes the byte code
        for turn in range(sizes.rounds * sizes.instances):
            for version in versions if turn % 2 == 0 else versions[::-1]:
                cost = measure_once(directory, version.environment, sys.executable)
                importing[version.name][turn % sizes.instances].append(cost.importing)
                installing[version.name][turn % sizes.instances].append(cost.installing)
    yield "import", compare(*importing.values())
    yield "install()", compare(*installing.values())


def _no_samples(versions: Sequence[Version], instances: int) -> Samples:
    return {version.name: [[] for _ in range(instances)] for version in versions}
