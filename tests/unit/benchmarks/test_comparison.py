"""`make bench ARGS="--compare REV"` reports a version as dearer if it is, and else as within the measured noise."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.benchmarks.comparison import compare, table
from tests.benchmarks.versions import old_and_new


def instances(cost: float, *, layout: float, seed: int) -> list[list[float]]:
    """Return three processes of a version, each dearer than `cost` by its own constant, with noise on each round."""
    generator = random.Random(seed)
    return [[cost + offset + generator.expovariate(0.5) for _ in range(9)] for offset in (0.0, layout / 2, layout)]


def test_a_difference_larger_than_that_between_equal_processes_is_found() -> None:
    """A change that costs every task 40 µs must not be merged unnoticed."""
    comparison = compare(instances(400, layout=10, seed=1), instances(440, layout=10, seed=2))
    assert comparison.verdict == "dearer"
    assert comparison.minima.added == pytest.approx(40, abs=1)
    assert compare(instances(440, layout=10, seed=1), instances(400, layout=10, seed=2)).verdict == "cheaper"


def test_the_difference_between_two_equal_processes_is_noise() -> None:
    """An engineer must not search for 10 µs that one process's memory layout causes."""
    assert compare(instances(400, layout=20, seed=1), instances(410, layout=20, seed=2)).verdict == "within the noise"


def test_minima_and_medians_must_agree() -> None:
    """A machine that is busy in half of the rounds distorts one of the two."""
    old, new = instances(400, layout=2, seed=1), instances(400, layout=2, seed=2)
    busy = [rounds[:1] + [cost + 100 for cost in rounds[1:]] for rounds in new]
    comparison = compare(old, busy)
    assert comparison.medians.exceeds_noise
    assert comparison.verdict == "within the noise"


def test_one_instance_decides_nothing() -> None:
    """A single pair of processes can differ by more than the change that it is to show."""
    with pytest.raises(ValueError, match="two instances"):
        compare([[400.0]], [[500.0], [500.0]])


def test_the_table_shows_the_figures_and_the_verdict() -> None:
    """The reader of the table must see both versions, the difference and the noise without computing."""
    row = table({"solo": compare([[1.0], [1.5]], [[9.0], [9.5]])}, "µs").text().splitlines()[1]
    assert " ".join(row.split()) == "solo 1.2 9.2 +8.0 ± 1.5 1.2 9.2 +8.0 ± 1.5 dearer"


def test_an_unknown_revision_is_reported(tmp_path: Path) -> None:
    """A misspelt revision must not end in a traceback after minutes of measuring."""
    with pytest.raises(ValueError, match="no-such-revision"):
        old_and_new("no-such-revision", tmp_path)
