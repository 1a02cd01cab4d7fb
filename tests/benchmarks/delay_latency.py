"""How long `delay()` takes the caller: bare, with the agent and with each peer."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.benchmarks.comparison import added, compare
from tests.benchmarks.page import Section
from tests.benchmarks.plots import Bar, Plot
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.variants import ALL, BARE, EVENTS
from tests.benchmarks.workers import Producer, Progress, Samples, rounds, side_by_side

_VARIANTS = tuple(variant for variant in ALL if variant != EVENTS)  # an option of workers
_PERCENTILES = ("p50", "p99")
_START_SECONDS, _CALL_SECONDS = 1.5, 0.0006


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Measure producers side by side, without a worker."""
    variants = [variant for variant in _VARIANTS if variant.is_installed]
    calls: dict[Producer, list[float]] = {}

    def publish(producer: Producer) -> float:
        durations = producer.publish(sizes.calls)
        producer.discard()
        calls.setdefault(producer, []).append(durations["p99"])
        return durations["p50"]

    with (
        tempfile.TemporaryDirectory() as name,
        side_by_side(Path(name), variants, sizes.instances, Producer) as running,
    ):
        for _, _, producer in running:
            producer.publish(sizes.calls)
            producer.discard()
        samples = {"p50": rounds(running, sizes.rounds, publish, "delay()", progress), "p99": _none(running)}
        for variant, _, producer in running:
            samples["p99"][variant.name].append(calls[producer])
    costs = {
        (percentile, variant.name): compare(samples[percentile][BARE.name], samples[percentile][variant.name])
        for percentile in _PERCENTILES
        for variant in variants
    }
    rows = [
        [
            variant.name,
            *(
                cell
                for percentile in _PERCENTILES
                for difference in (costs[percentile, variant.name].minima, costs[percentile, variant.name].medians)
                for cell in (f"{difference.new:.0f}", added(difference) if variant != BARE else "")
            ),
        ]
        for variant in variants
    ]
    header = ["µs of a call", "p50, minimum", "added", "median", "added", "p99, minimum", "added", "median", "added"]
    bars = [
        Bar(variant.name, costs["p50", variant.name].minima.new, costs["p50", variant.name].minima.noise)
        for variant in variants
    ]
    return Section(
        "The latency of `delay()`",
        [
            (
                "Time from the call of `delay()` to its return, on Redis. "
                f"{sizes.instances} producers of each variant, "
                f"{sizes.rounds} rounds of {sizes.calls:,} calls: the median and the 99th percentile of each round; "
                "the table has their minimum and median."
            )
        ],
        [Table(header, rows)],
        [Plot("p50", "delay(), median of the calls (minimum of the rounds)", "µs", bars)],
    )


def _none(running: list) -> Samples:  # type: ignore[type-arg]
    return {variant.name: [] for variant, _, _ in running}


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    return len(_VARIANTS) * sizes.instances * (_START_SECONDS + (sizes.rounds + 1) * sizes.calls * _CALL_SECONDS)
