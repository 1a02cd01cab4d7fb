"""Claims of runs, in one transaction: which of those that are ready may begin, by the limits of their jobs.

The order is that of priorities, then of creation. A run that has no place keeps its own, and no other run waits for it.
Requests have as many places as workers send at a time. Celery tasks wait in queues of their own, and need none.
"""

from __future__ import annotations

import heapq
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from sluice_agent.jobs import cron
from sluice_agent.jobs.celery_target import Arguments, CeleryTarget, TaskRules, arguments_in
from sluice_agent.jobs.definitions.jobs import Job, find_job
from sluice_agent.jobs.definitions.versions import JobVersion, version_to_start
from sluice_agent.jobs.engine.candidates import Head, Position, claimed_counts, heads, ready_runs
from sluice_agent.jobs.execution.circuits import Admissions
from sluice_agent.jobs.runs.changes import change, state_of
from sluice_agent.jobs.runs.named_limits import Rooms
from sluice_agent.jobs.runs.tickets import add_ticket, new_ticket
from sluice_agent.jobs.runs.transitions import Claimed, Event, Faulted, Held, Postponed, advance
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import run
from sluice_agent.server.timestamps import to_datetime, to_moment

_SECOND = 1_000_000  # microseconds
_MOST_ROWS = 100  # of one job that are read at a time
_MOST_JOBS = 2_000
_MOST_TASKS = 20  # of one claim: if the process ends before their messages are sent, their outcome stays unknown
MOST_OF_JOB = 1_000
"""Celery tasks of one job that are published at a time. The others stay in the database, and keep their order there."""

TASK_WAIT = 86_400
"""Seconds that the message of a Celery task may wait for a worker, if the run has no expiry."""

NO_TASKS = TaskRules()
_NOTHING: Mapping[str, Any] = {}
_PER_RUN = uuid.UUID("5a0c54d1-6a0e-5d5c-9d0b-64b0a8f1f6c3")  # any: ids of other origin differ


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
    call: TaskCall | None = None
    """The Celery task that is called; None: a request is sent."""


@dataclass(frozen=True, slots=True)
class TaskCall:
    """The call of a Celery task. `task_id` is the same for the same attempt of a run, however often it is claimed."""

    task_id: str
    target: CeleryTarget
    arguments: Arguments
    timeout_secs: int


def task_id_of(run_id: str, retries: int) -> str:
    """Return the id of the Celery task that an attempt of a run is."""
    return str(uuid.uuid5(_PER_RUN, f"{run_id}/{retries}"))


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


def claim_runs(
    writer: Connection, jobs: JobCache, places: int, now: int, seconds: float, tasks: TaskRules = NO_TASKS
) -> list[Claim]:
    """Claim ready runs, for `seconds`, until as many requests as `places` are under way. Return them in their order.

    `tasks` are the rules of Celery tasks: a run whose task may not be sent ends. No other process may claim meanwhile.
    """
    counts = claimed_counts(writer)
    return _Walk(writer, jobs, now, seconds, counts.of_key, tasks).take(places - counts.requests)


def has_ready_tasks(reader: Connection, jobs: JobCache) -> bool:
    """Return whether a job whose endpoint is a Celery task has ready runs."""
    return any(jobs.find(reader, head.job_id, head.version).settings.task is not None for head in heads(reader))


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
        tasks: TaskRules,
    ) -> None:
        self._writer = writer
        self._jobs = jobs
        self._now = now
        self._seconds = seconds
        self._of_key = Counter(counts)
        self._of_job: Counter[str] = Counter()
        for (job_id, _), count in counts.items():
            self._of_job[job_id] += count
        self._rooms = Rooms(writer, now)
        self._admissions = Admissions(writer, now)
        self._claims: list[Claim] = []
        self._changes: list[dict[str, Any]] = []
        self._tasks = tasks
        self._places = {False: 0, True: _MOST_TASKS}  # by whether it is a Celery task
        self._versions: dict[tuple[str, int], JobVersion] = {}
        self._openings: dict[str, int | None] = {}

    def take(self, requests: int) -> list[Claim]:
        """Claim at most so many runs that are requests."""
        self._places[False] = requests
        order = [(head.position, _Queue(head)) for head in heads(self._writer)]
        while order and max(self._places.values()) > 0:
            _, queue = heapq.heappop(order)  # no two have the same position
            job = self._jobs.find(self._writer, queue.head.job_id, queue.head.version)
            places = self._places[job.settings.task is not None]
            if places <= 0:
                continue
            if queue.rows:
                self._decide(job, queue.rows.pop(0), queue)
            if not queue.rows:
                self._read(queue, job, places)
            if queue.rows:
                heapq.heappush(order, (_position(queue.rows[0]), queue))
        self._write()
        return self._claims

    def _read(self, queue: _Queue, job: Job, most: int) -> None:
        """Read the next rows of a job: not more than there are places in it."""
        limit = _most_of(job)
        free = limit - self._of_job[job.id] if limit else most
        room = self._rooms.of_job(job)
        wanted = min(free, most, _MOST_ROWS if room is None else room, _MOST_ROWS)
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

    def _decide(self, job: Job, row: Row[Any], queue: _Queue) -> None:
        """Claim a run, or let it wait for the time at which it may begin, or leave it where it is."""
        most, most_of_key = _most_of(job), job.settings.max_concurrency_per_key
        key = (job.id, row.concurrency_key)
        if most and self._of_job[job.id] >= most:
            return
        if most_of_key and row.concurrency_key is not None and self._of_key[key] >= most_of_key:
            return
        room = self._rooms.of_job(job)  # jobs that share a limit have taken from it since the rows were read
        if room is not None and room <= 0:
            return
        opening = self._opening(job)
        if opening is not None:
            self._change(row, Postponed(opening))
            return
        version = self._version_of(job, row.job_version)
        target = version.settings.task
        if self._places[target is not None] <= 0:
            queue.rows, queue.is_read = [], True  # of another kind than the job is now
            return
        if not (self._admit(job, row, version) if target is None else self._call(row, job, version, target)):
            return
        self._places[target is not None] -= 1
        self._rooms.take(job)
        self._of_job[job.id] += 1
        self._of_key[key] += 1

    def _admit(self, job: Job, row: Row[Any], version: JobVersion) -> bool:
        """Claim a request if the circuit of its endpoint is closed, and return whether it is."""
        probe = version.settings.timeout_secs + self._seconds
        asks_at = self._admissions.asks_at(job.project_id, version.settings.circuit, probe)
        if asks_at is not None:
            self._change(row, Held(asks_at))
            return False
        ticket, until = new_ticket(), self._now + round(self._seconds * _SECOND)
        self._change(row, Claimed(until, add_ticket(row.ticket_hash, ticket)))
        self._add(row, job, ticket, until, None)
        return True

    def _call(self, row: Row[Any], job: Job, version: JobVersion, target: CeleryTarget) -> bool:
        """Claim the call of a task if it may be sent, and return whether it may. Else the run ends."""
        fault = self._tasks.fault(target)
        if fault is None:
            try:
                arguments = arguments_in(target, str(self._writer.scalar(_PAYLOAD, {"run": row.id})))
            except ValueError as error:
                fault = f"the payload is no call of the task {target.task}: {error}"
        task_id = task_id_of(row.id, row.retries)
        if fault is not None:
            claimed = change(self._writer, row, Claimed(self._now, None), self._now)
            if claimed is not None:
                change(self._writer, claimed, Faulted(fault), self._now)
            return False
        is_first = row.first_started_at is None
        wait = self._now + TASK_WAIT * _SECOND
        until = row.expires_at if is_first and row.expires_at is not None else wait
        is_of = {"job_version": version.version, "job_version_id": version.id}
        self._change(row, Claimed(until, None, task_id), is_of)
        self._add(row, job, "", until, TaskCall(task_id, target, arguments, version.settings.timeout_secs))
        return True

    def _add(self, row: Row[Any], job: Job, ticket: str, until: int, call: TaskCall | None) -> None:
        numbers = row.attempt, row.retries, row.priority
        self._claims.append(Claim(row.id, *numbers, job.settings.slug, row.created_at, ticket, until, call))

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

    def _version_of(self, job: Job, version: int) -> JobVersion:
        """Return the version by which a run of this version would be started now."""
        if (job.id, version) not in self._versions:
            self._versions[job.id, version] = version_to_start(self._writer, job, version)
        return self._versions[job.id, version]

    def _change(self, row: Row[Any], event: Event, also: Mapping[str, Any] = _NOTHING) -> None:
        """Change a run, whose row is locked, with the next `_write`; `also` are further columns."""
        values = {**advance(state_of(row), event, self._now), **also}
        status: Status = values["status"]
        self._changes.append({**values, "status": status.value, "run_id": row.id})

    def _write(self) -> None:
        by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for values in self._changes:
            by_columns.setdefault(tuple(values), []).append(values)
        for changes in by_columns.values():
            self._writer.execute(_UPDATE, changes)
        self._changes = []


_PAYLOAD = select(run.c.payload).where(run.c.id == bindparam("run"))
_UPDATE = update(run).where(run.c.id == bindparam("run_id"))


def _most_of(job: Job) -> int:
    """Return how many runs of a job may be under way; 0: any number."""
    most = job.settings.max_concurrency
    return most if job.settings.task is None else min(most or MOST_OF_JOB, MOST_OF_JOB)


def _position(row: Row[Any]) -> Position:
    return (-row.priority, row.created_at, row.id)
