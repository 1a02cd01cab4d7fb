"""Claims of runs, in one transaction: which of those that are ready may begin, by the limits of their jobs.

The order is that of priorities, then of creation. A run that has no place keeps its own, and no other run waits for it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, bindparam, update

from sluice_agent.jobs import cron
from sluice_agent.jobs.definitions.jobs import Job, find_job
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.definitions.versions import version_to_start
from sluice_agent.jobs.engine.candidates import Head, Position, claimed_counts, heads, ready_runs
from sluice_agent.jobs.execution.circuits import admit_request
from sluice_agent.jobs.runs.changes import state_of
from sluice_agent.jobs.runs.tickets import add_ticket, new_ticket
from sluice_agent.jobs.runs.transitions import Claimed, Event, Held, Postponed, advance
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import run
from sluice_agent.server.timestamps import to_datetime, to_moment

_SECOND = 1_000_000  # microseconds
_MOST_ROWS = 100  # of one job that are read at a time
_MOST_JOBS = 2_000


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that was claimed, with the ticket that its message has. Times are microseconds since 1970."""

    run_id: str
    attempt: int
    retries: int
    priority: int
    slug: str
    created_at: int
    ticket: str
    until: int


class JobCache:
    """Jobs by their version, of which no setting changes: most claims look at the same ones."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, int], Job] = {}

    def find(self, reader: Connection, job_id: str, version: int) -> Job:
        """Return a job, which is enabled and has this version."""
        if (job_id, version) not in self._jobs:
            if len(self._jobs) >= _MOST_JOBS:
                self._jobs.clear()
            self._jobs[job_id, version] = find_job(reader, job_id, None)
        return self._jobs[job_id, version]


def claim_runs(writer: Connection, jobs: JobCache, places: int, now: int, seconds: float) -> list[Claim]:
    """Claim ready runs, for `seconds`, until as many as `places` are under way, and return them in their order.

    No other process may claim meanwhile.
    """
    counts = claimed_counts(writer)
    return _Walk(writer, jobs, now, seconds, counts).take(places - sum(counts.values()))


@dataclass(slots=True)
class _Queue:
    """The ready runs of a job, as far as they were read."""

    head: Head
    rows: list[Row[Any]] = field(default_factory=list)
    is_read: bool = False
    """True if no more rows are to be read."""


class _Walk:
    """Goes through the ready runs of all jobs in their order, and raises the counts as it takes them."""

    def __init__(
        self,
        writer: Connection,
        jobs: JobCache,
        now: int,
        seconds: float,
        counts: Mapping[tuple[str, str | None], int],
    ) -> None:
        self._writer = writer
        self._jobs = jobs
        self._now = now
        self._seconds = seconds
        self._of_key = Counter(counts)
        self._of_job: Counter[str] = Counter()
        for (job_id, _), count in counts.items():
            self._of_job[job_id] += count
        self._claims: list[Claim] = []
        self._changes: list[dict[str, Any]] = []
        self._settings: dict[tuple[str, int], JobSettings] = {}
        self._openings: dict[str, int | None] = {}

    def take(self, most: int) -> list[Claim]:
        """Claim at most so many runs."""
        if most <= 0:
            return []
        order = [(head.position, _Queue(head)) for head in heads(self._writer)]
        while order and len(self._claims) < most:
            _, queue = heapq.heappop(order)  # no two have the same position
            job = self._jobs.find(self._writer, queue.head.job_id, queue.head.version)
            if queue.rows:
                self._decide(job, queue.rows.pop(0))
            if not queue.rows:
                self._read(queue, job, most - len(self._claims))
            if queue.rows:
                heapq.heappush(order, (_position(queue.rows[0]), queue))
        self._write()
        return self._claims

    def _read(self, queue: _Queue, job: Job, most: int) -> None:
        """Read the next rows of a job: not more than there are places in it."""
        limit = job.settings.max_concurrency
        free = limit - self._of_job[job.id] if limit else most
        wanted = min(free, most, _MOST_ROWS)
        if queue.is_read or wanted <= 0:
            return
        self._write()  # what was decided is not read again
        queue.rows = ready_runs(self._writer, job.id, self._full_keys(job), wanted)
        queue.is_read = len(queue.rows) < wanted

    def _full_keys(self, job: Job) -> list[str]:
        limit = job.settings.max_concurrency_per_key
        if not limit:
            return []
        return sorted(key for (id_, key), count in self._of_key.items() if id_ == job.id and key and count >= limit)

    def _decide(self, job: Job, row: Row[Any]) -> None:
        """Claim a run, or let it wait for the time at which it may begin, or leave it where it is."""
        most, most_of_key = job.settings.max_concurrency, job.settings.max_concurrency_per_key
        key = (job.id, row.concurrency_key)
        if most and self._of_job[job.id] >= most:
            return
        if most_of_key and row.concurrency_key is not None and self._of_key[key] >= most_of_key:
            return
        opening = self._opening(job)
        if opening is not None:
            self._change(row, Postponed(opening))
            return
        settings = self._settings_of(job, row.job_version)
        probe = settings.timeout_secs + self._seconds
        asks_at = admit_request(self._writer, job.project_id, settings.endpoint_url, self._now, probe)
        if asks_at is not None:
            self._change(row, Held(asks_at))
            return
        self._claim(job, row)
        self._of_job[job.id] += 1
        self._of_key[key] += 1

    def _claim(self, job: Job, row: Row[Any]) -> None:
        ticket, until = new_ticket(), self._now + round(self._seconds * _SECOND)
        self._change(row, Claimed(until, add_ticket(row.ticket_hash, ticket)))
        self._claims.append(
            Claim(row.id, row.attempt, row.retries, row.priority, job.settings.slug, row.created_at, ticket, until)
        )

    def _opening(self, job: Job) -> int | None:
        """Return when the job's window opens; None if it is open, or there is none."""
        if job.id not in self._openings:
            opening = None
            if job.settings.execution_window_cron:
                expression = cron.parse(job.settings.execution_window_cron, job.settings.timezone or "UTC")
                found = to_moment(cron.next_open(expression, to_datetime(self._now)))
                opening = found if found > self._now else None
            self._openings[job.id] = opening
        return self._openings[job.id]

    def _settings_of(self, job: Job, version: int) -> JobSettings:
        """Return the settings by which a run of this version would be started now."""
        if (job.id, version) not in self._settings:
            self._settings[job.id, version] = version_to_start(self._writer, job, version).settings
        return self._settings[job.id, version]

    def _change(self, row: Row[Any], event: Event) -> None:
        """Change a run, whose row is locked, with the next `_write`."""
        values = advance(state_of(row), event, self._now)
        status: Status = values["status"]
        self._changes.append({**values, "status": status.value, "run_id": row.id})

    def _write(self) -> None:
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for change in self._changes:
            by_columns.setdefault(tuple(change), []).append(change)
        for changes in by_columns.values():
            self._writer.execute(_UPDATE, changes)
        self._changes = []


_UPDATE = update(run).where(run.c.id == bindparam("run_id"))


def _position(row: Row[Any]) -> Position:
    return (-row.priority, row.created_at, row.id)
