"""The processor time of a no-op task: bare, with the agent, and with each peer.

Also with receivers of Celery's signals that do nothing: no program that uses the signals can cost less. The same run
shows which of a job's three states each reported, what it sent, and what memory the worker uses.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks.comparison import Comparison, added, compare
from tests.benchmarks.endpoint import Received
from tests.benchmarks.page import Section
from tests.benchmarks.plots import Bar, Plot
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.variants import ALL, BARE, PEERS, STATES, Variant
from tests.benchmarks.workers import (
    Instance,
    MeasuredWorker,
    Memory,
    Progress,
    Samples,
    measured_worker,
    rounds,
    side_by_side,
)

_START_SECONDS = 8.0
_TASK_SECONDS = 0.0025


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of one pool. All but the samples are by the name of a variant, of its first instance."""

    samples: Samples
    memory: dict[str, Memory]
    received: dict[str, Received]
    published: dict[str, int]


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Measure each pool in turn."""
    variants = [variant for variant in ALL if variant.is_installed]
    results = {pool: _measure_pool(pool, variants, sizes, progress) for pool in sizes.pools}
    costs = {
        (pool, variant.name): compare(result.samples[BARE.name], result.samples[variant.name])
        for pool, result in results.items()
        for variant in variants
        if variant != BARE
    }
    return Section(
        "A no-op task",
        [
            (
                "CPU time of a task, of its worker and its producer together, in µs. "
                f"{sizes.instances} instances of each variant, {sizes.rounds} rounds of {sizes.tasks:,} tasks, on "
                "one Redis. While the producer publishes, the worker is stopped; the time ends when everything is sent."
            ),
            _releases(variants),
            (
                "`signals` has a receiver that does nothing at each signal of a task's course: no program that uses "
                "the signals can cost less. *Reported* is the share of jobs whose state arrived at the endpoint, or, "
                "for Celery's own events, at a listener. A peer that sends one record when the task has ended reports "
                "no job that runs."
            ),
        ],
        [_costs(results, costs), _reports(results), _memory(results)],
        [
            Plot(
                "added",
                "CPU that a no-op task costs more (minima)",
                "µs more than bare",
                [
                    Bar(name, cost.minima.added, cost.minima.noise, sizes.pools.index(pool))
                    for (pool, name), cost in costs.items()
                ],
                sizes.pools,
            )
        ],
    )


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    turns = sum(sizes.tasks * _TASK_SECONDS + variant.settle_seconds for variant in ALL) * sizes.rounds
    return len(sizes.pools) * sizes.instances * (turns + len(ALL) * _START_SECONDS)


def _measure_pool(pool: str, variants: Sequence[Variant], sizes: Sizes, progress: Progress) -> Result:
    with tempfile.TemporaryDirectory() as name:
        start = partial(measured_worker, pool=pool, warm_up=sizes.warm_up)
        with side_by_side(Path(name), variants, sizes.instances, start) as running:
            samples = rounds(running, sizes.rounds, lambda worker: worker.run(sizes.tasks), pool, progress)
            firsts: list[Instance[MeasuredWorker]] = [instance for instance in running if instance.number == 0]
            memory = {variant.name: worker.memory() for variant, _, worker in firsts}
        return Result(
            samples,
            memory,
            {variant.name: worker.endpoint.received for variant, _, worker in firsts},
            {variant.name: worker.published for variant, _, worker in firsts},
        )


def _releases(variants: Sequence[Variant]) -> str:
    peers = [f"{variant.name} ({variant.release})" for variant in variants if variant in PEERS]
    absent = [variant.name for variant in ALL if variant not in variants]
    text = f"Peers, as their documentation sets them up: {'; '.join(peers) or 'none'}."
    return f"{text} Not installed: {', '.join(absent)}." if absent else text


def _costs(results: dict[str, Result], costs: dict[tuple[str, str], Comparison]) -> Table:
    rows = []
    for pool, result in results.items():
        first = next(comparison for (each, _), comparison in costs.items() if each == pool)
        rows.append([f"{pool}, {BARE.name}", f"{first.minima.old:.1f}", "", f"{first.medians.old:.1f}", "", ""])
        rows += [
            [
                f"{pool}, {name}",
                *(f"{costs[pool, name].minima.new:.1f}", added(costs[pool, name].minima)),
                *(f"{costs[pool, name].medians.new:.1f}", added(costs[pool, name].medians)),
                f"×{costs[pool, name].minima.new / costs[pool, name].minima.old:.3f}",
            ]
            for name in result.samples
            if name != BARE.name
        ]
    return Table(["µs of CPU a task", "minimum", "added", "median", "added", "ratio of minima"], rows)


def _reports(results: dict[str, Result]) -> Table:
    rows = []
    for pool, result in results.items():
        for name, received in result.received.items():
            shares = [received.states[state] / result.published[name] for state in STATES]
            if not any(shares) and not received.requests:
                continue
            thousands = result.published[name] / 1_000
            sent = [f"{received.requests / thousands:,.1f}", f"{received.size / thousands / 1e3:,.0f}"]
            rows.append(
                [
                    f"{pool}, {name}",
                    *(f"{share:.0%}" if share else "—" for share in shares),
                    f"{sum(map(bool, shares))} of {len(STATES)}",
                    *(sent if received.requests else ["(broker)", "(broker)"]),
                ]
            )
    header = ["reported", *STATES, "states", "HTTP requests for 1,000 jobs", "kB for 1,000 jobs"]
    return Table(header, rows)


def _memory(results: dict[str, Result]) -> Table:
    rows = []
    for pool, result in results.items():
        bare = result.memory[BARE.name]
        for name, memory in result.memory.items():
            child = "—"
            if memory.child is not None and bare.child is not None:
                child = f"{memory.child / 1e6:.1f} ({(memory.child - bare.child) / 1e6:+.1f})"
            rows.append([f"{pool}, {name}", f"{memory.main / 1e6:.1f} ({(memory.main - bare.main) / 1e6:+.1f})", child])
    return Table(["memory of a process alone, MB (more than bare)", "main process", "pool child"], rows)
