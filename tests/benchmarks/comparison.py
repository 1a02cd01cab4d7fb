"""Decides whether two samples of a cost differ by more than the noise between equal instances.

An instance is one process of a version. Two processes of the same version differ by their memory layout for their
whole life, so one observation is an instance, never a single round of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from tests.benchmarks.tables import Table

# Two-sided 95 % quantiles of Student's t by degrees of freedom; beyond the last one its value is used, which is larger.
_STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11)


@dataclass(frozen=True, slots=True)
class Difference:
    """The cost of both versions in the unit of the samples, and the noise of their difference."""

    old: float
    new: float
    noise: float
    """Half the width of the 95 % confidence interval of the difference, from the spread between instances."""

    @property
    def added(self) -> float:
        """The cost that the new version adds; below zero if it is cheaper."""
        return self.new - self.old

    @property
    def exceeds_noise(self) -> bool:
        """True if the difference is larger than the noise, in either direction."""
        return abs(self.added) > self.noise


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cost of two versions, by the minima and by the medians of each instance's rounds."""

    minima: Difference
    medians: Difference

    @property
    def verdict(self) -> str:
        """`dearer` or `cheaper` if minima and medians agree on it, beyond their noise; else `within the noise`."""
        differences = (self.minima, self.medians)
        if all(difference.exceeds_noise for difference in differences):
            if all(difference.added > 0 for difference in differences):
                return "dearer"
            if all(difference.added < 0 for difference in differences):
                return "cheaper"
        return "within the noise"


def compare(old: Sequence[Sequence[float]], new: Sequence[Sequence[float]]) -> Comparison:
    """Compare two versions. A version is given by its instances, an instance by the costs of its rounds.

    Raise ValueError if a version has fewer than two instances: their spread is the noise.
    """
    if min(len(old), len(new)) < 2:
        raise ValueError("two instances of each version are needed, as the spread between them is the noise")
    return Comparison(
        _difference([min(rounds) for rounds in old], [min(rounds) for rounds in new]),
        _difference([statistics.median(rounds) for rounds in old], [statistics.median(rounds) for rounds in new]),
    )


def _difference(old: Sequence[float], new: Sequence[float]) -> Difference:
    degrees = len(old) + len(new) - 2
    squares = sum(statistics.pvariance(sample) * len(sample) for sample in (old, new))
    error = sqrt(squares / degrees * (1 / len(old) + 1 / len(new)))
    noise = _STUDENT_T[min(degrees, len(_STUDENT_T)) - 1] * error
    return Difference(statistics.fmean(old), statistics.fmean(new), noise)


def table(comparisons: Mapping[str, Comparison], unit: str) -> Table:
    """Return a table with one row for each comparison."""
    header = [f"cost, {unit}", *("old", "new", "added, of minima"), *("old", "new", "added, of medians"), "verdict"]
    return Table(
        header,
        [
            [name, *_cells(comparison.minima), *_cells(comparison.medians), comparison.verdict]
            for name, comparison in comparisons.items()
        ],
    )


def _cells(difference: Difference) -> list[str]:
    return [f"{difference.old:.1f}", f"{difference.new:.1f}", added(difference)]


def added(difference: Difference) -> str:
    """Return what is added, with its noise."""
    return f"{difference.added:+.1f} ± {difference.noise:.1f}"
