"""The health of a job: how its runs of a window have ended, and how long they took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import Connection, bindparam, case, func, select

from sluice_agent.jobs.status import TERMINAL, Status
from sluice_agent.jobs.store.schema import run

_DAY = 86_400


class HealthWindow(str, Enum):
    """The windows, back from the present."""

    HOUR = "1h"
    DAY = "1d"
    WEEK = "7d"
    MONTH = "30d"

    @property
    def seconds(self) -> int:
        """The length."""
        return {"1h": 3_600, "1d": _DAY, "7d": 7 * _DAY, "30d": 30 * _DAY}[self.value]


@dataclass(frozen=True, slots=True)
class Durations:
    """Of runs that have started, from the start of the last attempt to the end, in seconds; 0 if there is none.

    Percentiles are interpolated.
    """

    mean: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """The runs that were created since a moment and have ended, by their ends. `score` is -1 if there are none."""

    since: int
    counts: dict[Status, int]
    durations: Durations

    @property
    def total(self) -> int:
        """All runs that have ended."""
        return sum(self.counts.values())

    @property
    def success_rate(self) -> float:
        """The share of those that were completed, in percent."""
        return 100 * self.counts[Status.COMPLETED] / self.total if self.total else 0.0

    @property
    def score(self) -> float:
        """From 0 to 100: 70 for successes, and 30 for durations of which the 95th percentile is near the mean."""
        return health_score(self.success_rate, self.durations) if self.total else -1.0


def health_score(success_rate: float, durations: Durations) -> float:
    """Return the score of a job whose runs have ended so. Pure."""
    if durations.mean == 0:
        stability = 0.0
    else:
        excess = max(0.0, durations.p95 / durations.mean - 2)
        stability = 30 - min(30.0, 15 * excess)
    return min(100.0, 0.7 * success_rate + stability)


def read_health(reader: Connection, job_id: str, window: HealthWindow, now: int) -> Health:
    """Return the health of a job over the runs that were created in the window which ends now."""
    since = now - window.seconds * 1_000_000
    parameters = {"job": job_id, "since": since}
    counts = dict.fromkeys(TERMINAL, 0)
    started, total = 0, 0
    for status, count, with_duration, duration in reader.execute(_ENDS, parameters):
        counts[Status(status)] = count
        started += with_duration
        total += duration or 0
    if not started:
        return Health(since, counts, Durations())
    percentiles = _percentiles(reader, parameters, started)
    return Health(since, counts, Durations(float(total) / started / 1_000_000, *percentiles))


def _percentiles(reader: Connection, parameters: dict[str, object], count: int) -> list[float]:
    """Return the 95th and the 99th percentile of durations in seconds, between the two that are next to each."""
    positions = [share * (count - 1) for share in (0.95, 0.99)]
    first = math.floor(positions[0])
    longest: Sequence[int] = reader.scalars(_LONGEST, {**parameters, "most": count - first}).all()[::-1]

    def value(position: float) -> float:
        below = math.floor(position)
        low, high = int(longest[below - first]), int(longest[min(below + 1, count - 1) - first])
        return (low + (high - low) * (position - below)) / 1_000_000

    return [value(position) for position in positions]


_IS_COUNTED = (
    run.c.job_id == bindparam("job"),
    run.c.created_at >= bindparam("since", type_=run.c.created_at.type),
    run.c.status.in_([status.value for status in TERMINAL]),
)
_DURATION = run.c.finished_at - run.c.started_at
_HAS_DURATION = run.c.started_at.is_not(None) & (run.c.finished_at >= run.c.started_at)
_ENDS = (
    select(
        run.c.status,
        func.count(),
        func.sum(case((_HAS_DURATION, 1), else_=0)),
        func.sum(case((_HAS_DURATION, _DURATION), else_=0)),
    )
    .where(*_IS_COUNTED)
    .group_by(run.c.status)
)
_LONGEST = (
    select(_DURATION)
    .where(*_IS_COUNTED, _HAS_DURATION)
    .order_by(_DURATION.desc())
    .limit(bindparam("most", type_=run.c.retries.type))
)
