"""What the database keeps: jobs up to an age and a size, and what is counted and sampled for fixed times.

The writer calls `Retention.work` after each transaction, and when more is due. Each call is one small transaction, so
that no client waits long for it. Jobs under way are never deleted; of the others the oldest go first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice
from operator import attrgetter

from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.driver import OldJob, UpkeepDriver
from sluice_agent.server.store.schema import AHEAD, DAY, HOUR, HOURS_KEPT, MINUTE, MINUTES_KEPT
from sluice_agent.server.timestamps import to_moment

_JOBS = 2_000  # in one transaction
_SECOND = 1_000_000  # in microseconds, as all moments
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_ROUND = 60.0  # seconds from one look at ages to the next
_BETWEEN = 0.01  # seconds that are left to batches between two transactions

_NEVER = 2**62  # a moment after all others, also those of clocks that are ahead

_THINNED_AFTER = 2 * _HOUR
_THINNED_AT_A_TIME = _HOUR  # of each series
_WORKER_MINUTES_KEPT = 7 * _DAY
_USAGE_KEPT = 90 * _DAY
_LEASE_KEPT = _HOUR  # after it ended: its process was killed
_UNKNOWN_AFTER = _DAY
"""A job whose worker is lost has ended if nothing has come for so long."""

_CREATION = attrgetter("created_at")

FINAL_STATES = tuple(code for code, state in enumerate(JOB_STATES) if state.is_final)
_UNKNOWN = JOB_STATES.index("unknown")


@dataclass(frozen=True, slots=True)
class Keep:
    """How long jobs are kept after their last change, and how many bytes the database may take; None: no limit."""

    age: timedelta | None = None
    size: int | None = None


EVERYTHING = Keep()


class Retention:
    """The deletion of what is too old or too much. `forget_jobs` is called with the UUIDs of jobs that are deleted."""

    def __init__(
        self,
        driver: UpkeepDriver,
        keep: Keep,
        now: Callable[[], datetime],
        forget_jobs: Callable[[set[bytes]], None],
    ) -> None:
        self._driver = driver
        self._keep = keep
        self._now = now
        self._forget_jobs = forget_jobs
        self._held: Callable[[], set[bytes]] = set
        self._next_round = 0

    def hold(self, held: Callable[[], set[bytes]]) -> None:
        """Have no job deleted whose UUID is in what `held` returns, as its outcome is still to be read."""
        self._held = held

    def work(self) -> float:
        """Do a part of what is due, and return the seconds after which there is more to do."""
        now = to_moment(self._now())
        if self._delete_surplus(now):
            return _BETWEEN
        if now < self._next_round:
            return (self._next_round - now) / _SECOND
        if self._delete_aged(now) or self._thin_series(now):
            return _BETWEEN
        self._delete_counts(now)
        self._next_round = now + int(_ROUND * _SECOND)
        return _ROUND

    def _delete_surplus(self, now: int) -> bool:
        """Delete the oldest jobs if the database is too large. Return whether it was."""
        if self._keep.size is None or self._driver.used_bytes() <= self._keep.size:
            return False
        return self._delete_jobs(now, _NEVER)

    def _delete_aged(self, now: int) -> bool:
        if self._keep.age is None:
            return False
        return self._delete_jobs(now, now - self._keep.age // timedelta(microseconds=1))

    def _delete_jobs(self, now: int, changed_before: int) -> bool:
        """Delete the oldest jobs that have ended and have not changed since a moment. Return whether there are more."""
        held = self._held()
        with self._driver.transaction():
            oldest = self._oldest_jobs(now, changed_before)
            jobs = [job for job in oldest if job.uuid not in held]
            self._driver.delete_jobs([job.number for job in jobs])
            ended = Counter((job.connection, job.state) for job in jobs)
            self._driver.add_tallies({key: -count for key, count in sorted(ended.items())})
            self._driver.release_space()
        self._forget_jobs({job.uuid for job in jobs})
        return len(oldest) == _JOBS and bool(jobs)

    def _oldest_jobs(self, now: int, changed_before: int) -> list[OldJob]:
        unknown_before = min(changed_before, now - _UNKNOWN_AFTER)
        found = [
            self._driver.oldest_jobs(connection, state, unknown_before if state == _UNKNOWN else changed_before, _JOBS)
            for connection in self._driver.all_connections()
            for state in (*FINAL_STATES, _UNKNOWN)
        ]
        of_the_future = self._driver.old_future_jobs((*FINAL_STATES, _UNKNOWN), unknown_before, now + AHEAD, _JOBS)
        found.append(sorted(of_the_future, key=_CREATION))
        jobs = {job.number: job for job in merge(*found, key=_CREATION)}  # those of the future may be among the others
        return list(islice(jobs.values(), _JOBS))

    def _thin_series(self, now: int) -> bool:
        """Leave one point a minute of the next hour that is old enough. Return whether there is a further one."""
        with self._driver.transaction():
            start = self._driver.next_to_thin()
            end = min(start + _THINNED_AT_A_TIME, now - _THINNED_AFTER) // _MINUTE * _MINUTE
            if end <= start:
                return False
            self._driver.thin_series(start, end, _MINUTE)
        return end + _MINUTE <= now - _THINNED_AFTER

    def _delete_counts(self, now: int) -> None:
        """Delete counts and samples that are too old, and the workers and queues of which nothing is left."""
        with self._driver.transaction():
            for length, kept in ((MINUTE, MINUTES_KEPT), (HOUR, HOURS_KEPT), (DAY, HOURS_KEPT)):
                self._driver.delete_rollups(length, now // _MINUTE - kept)
            self._driver.delete_rollup_changes(now // _MINUTE - HOURS_KEPT)
            self._driver.delete_worker_rollups((now - _WORKER_MINUTES_KEPT) // _MINUTE)
            self._driver.delete_leases(now - _LEASE_KEPT)
            self._driver.delete_usage((self._now() - timedelta(microseconds=_USAGE_KEPT)).date().isoformat())
            if self._keep.age is not None:
                self._driver.delete_samples(now - self._keep.age // timedelta(microseconds=1))
            self._driver.release_space()
