"""The health of a job: how its runs of a window have ended, and how long they took."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import Connection, bindparam, func, select

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
    for status, count in reader.execute(_COUNTS, parameters):
        counts[Status(status)] = count
    ((started, total),) = reader.execute(_DURATIONS, parameters)
    if not started:
        return Health(since, counts, Durations())
    percentiles = [_percentile(reader, parameters, started, share) for share in (0.95, 0.99)]
    return Health(since, counts, Durations(float(total) / started / 1_000_000, *percentiles))


def _percentile(reader: Connection, parameters: dict[str, object], count: int, share: float) -> float:
    """Return a percentile in seconds, between the two durations that are next to it."""
    position = share * (count - 1)
    below = math.floor(position)
    nearest: Sequence[int] = reader.scalars(_NEAREST, {**parameters, "below": below}).all()
    low, high = int(nearest[0]), int(nearest[-1])
    return (low + (high - low) * (position - below)) / 1_000_000


_IS_COUNTED = (
    run.c.job_id == bindparam("job"),
    run.c.created_at >= bindparam("since", type_=run.c.created_at.type),
    run.c.status.in_([status.value for status in TERMINAL]),
)
_DURATION = run.c.finished_at - run.c.started_at
_HAS_DURATION = (*_IS_COUNTED, run.c.started_at.is_not(None), run.c.finished_at >= run.c.started_at)
_COUNTS = select(run.c.status, func.count()).where(*_IS_COUNTED).group_by(run.c.status)
_DURATIONS = select(func.count(), func.sum(_DURATION)).where(*_HAS_DURATION)
_NEAREST = (
    select(_DURATION)
    .where(*_HAS_DURATION)
    .order_by(_DURATION)
    .offset(bindparam("below", type_=run.c.retries.type))
    .limit(2)
)
