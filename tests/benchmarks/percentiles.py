"""Percentiles of a sample."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(sample: Sequence[float], percent: int) -> float:
    """Return the value that `percent` of the sample are below, or its largest one. The sample may have any order."""
    return sorted(sample)[min(len(sample) * percent // 100, len(sample) - 1)]
