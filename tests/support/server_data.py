"""A database with as many realistic jobs as a test or a benchmark asks for, written past the server's writer.

Tasks differ in how often they run, in their queue, how long they take and how often they fail. One job in five hundred
is under way, one in ten belongs to a canvas, and times are those of seven days.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Table, insert

from sluice_agent.model import JobState, WorkerState
from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.record.measures import Measure, bucket_of
from sluice_agent.server.store import schema
from sluice_agent.server.store.codes import JOB_STATES, WORKER_STATES
from sluice_agent.server.store.schema import LabelKind
from sluice_agent.server.timestamps import timestamp_of

NOW = 1_772_188_200_000_000
"""The moment at which the data ends, in microseconds since 1970: 2026-02-27T10:30:00Z."""

CONNECTIONS = ("550e8400-e29b-41d4-a716-446655440000", "6ba7b810-9dad-41d1-80b4-00c04fd430c8")
TASKS, QUEUES, WORKERS, ERRORS, STEPS = 400, 20, 50, 12, 7

_SECOND = 1_000_000
_MINUTE = 60 * _SECOND
_SPAN = 7 * 86_400 * _SECOND
_CHUNK = 5_000
_MEASURES = {
    JobState.COMPLETED: Measure.COMPLETED,
    JobState.FAILED: Measure.FAILED,
    JobState.CANCELLED: Measure.CANCELLED,
    JobState.RETRYING: Measure.RETRIED,
}
_UNDER_WAY = (
    JobState.QUEUED,
    JobState.QUEUED,
    JobState.ACTIVE,
    JobState.SCHEDULED,
    JobState.RETRYING,
    JobState.UNKNOWN,
)

_HELD = (JobState.SCHEDULED, JobState.RETRYING)

Labels = Mapping[tuple[LabelKind, str], int]


class Task(NamedTuple):
    """How jobs of one name behave: durations are log-normal, around `milliseconds`."""

    name: str
    queue: str
    share: float
    milliseconds: float
    failures: float


class MadeJob(NamedTuple):
    """A job: texts as texts, times in microseconds."""

    connection: int
    external_id: str
    task: Task
    state: JobState
    created: int
    started: int | None
    completed: int | None
    worker: str | None
    error: str | None
    root_id: str | None
    group_id: str | None

    @property
    def duration_ms(self) -> int | None:
        """The milliseconds from start to end."""
        if self.started is None or self.completed is None:
            return None
        return (self.completed - self.started) // 1_000


@dataclass(slots=True)
class _Totals:
    tallies: Counter[tuple[int, int]] = field(default_factory=Counter)
    rollups: Counter[tuple[int, int, int, int, int, int, int]] = field(default_factory=Counter)
    workers: dict[tuple[int, int, int], list[int]] = field(default_factory=dict)


def tasks() -> list[Task]:
    """Return the tasks of the data: a few run most of the time, and the last of all alone has one class of errors."""
    return [
        Task(
            f"shop.{('mail', 'billing', 'reports', 'search', 'media')[n % 5]}.task_{n:03}",
            f"queue-{n % QUEUES:02}",
            1 / (1 + n / 20),
            20 * 1.02**n,
            0.3 if n % 50 == 49 else 0.01,
        )
        for n in range(TASKS)
    ]


def fill(connection: Connection, jobs: int, *, connections: int = 2, steps_every: int = 1) -> None:
    """Write `jobs` jobs, their rollups and tallies, workers and queues into empty tables, the same ones each time.

    The first connection has three quarters of the jobs. Every `steps_every`-th job has its steps as well, so that its
    record can be read.
    """
    chance = random.Random(jobs)
    every = tasks()
    labels = _put_labels(connection, every)
    connection.execute(
        insert(schema.connection),
        [{"number": n + 1, "id": CONNECTIONS[n], "created_at": NOW - _SPAN} for n in range(connections)],
    )
    totals = _Totals()
    made = _made_jobs(chance, every, jobs, connections)
    number = 0
    while chunk := list(islice(made, _CHUNK)):
        numbered = list(enumerate(chunk, number + 1))
        number += len(chunk)
        connection.execute(insert(schema.job), [_job_row(each, made_job, labels) for each, made_job in numbered])
        kept = [
            row for each, made_job in numbered if each % steps_every == 0 for row in _step_rows(each, made_job, labels)
        ]
        if kept:
            connection.execute(insert(schema.step), kept)
        for made_job in chunk:
            _count(totals, made_job, labels)
    _put_totals(connection, totals)
    _put_workers_and_queues(connection, labels, connections, chance)


def _made_jobs(chance: random.Random, every: Sequence[Task], jobs: int, connections: int) -> Iterator[MadeJob]:
    weights = [task.share for task in every]
    root: str | None = None
    for n in range(jobs):
        created = NOW - _SPAN + _SPAN * n // jobs
        external_id = str(UUID(int=chance.getrandbits(128)))
        (task,) = chance.choices(every, weights)
        if n % 100 == 0:
            root = external_id
        in_canvas = 0 < n % 100 < 10
        state, started, completed, error = JobState.COMPLETED, None, None, None
        if chance.random() < 0.002 or n >= jobs - 20:
            state = chance.choice(_UNDER_WAY)
        elif chance.random() < task.failures:
            state = JobState.FAILED
            error = f"shop.errors.Error{chance.randrange(ERRORS):02}: it failed at step {n % STEPS}"
        elif chance.random() < 0.005:
            state = JobState.CANCELLED
        if state not in (JobState.QUEUED, JobState.SCHEDULED):
            started = created + int(chance.expovariate(1 / 2) * _SECOND)
            if n % 1_000 in (5, 6):  # the clocks of two hosts disagree, or the job waited for long
                started += 2 * 86_400 * _SECOND * (1 if n % 1_000 == 5 else -1)
        if state.is_final:
            completed = (started or created) + int(task.milliseconds * chance.lognormvariate(0, 0.5) * 1_000)
        yield MadeJob(
            1 if connections == 1 or n % 4 else 2,
            external_id,
            task,
            state,
            created,
            started,
            completed,
            f"celery@worker-{chance.randrange(WORKERS):02}" if started is not None else None,
            error,
            root if in_canvas else None,
            root if in_canvas and n % 2 else None,
        )


def _put_labels(connection: Connection, every: Iterable[Task]) -> dict[tuple[LabelKind, str], int]:
    texts = [
        *((LabelKind.NAME, task.name) for task in every),
        *((LabelKind.QUEUE, f"queue-{n:02}") for n in range(QUEUES)),
        *((LabelKind.WORKER, f"celery@worker-{n:02}") for n in range(WORKERS)),
        *((LabelKind.ERROR_CLASS, f"Error{n:02}") for n in range(ERRORS)),
        *((LabelKind.ERROR_LOCATION, f"shop/tasks.py:{n} in step_{n}") for n in range(STEPS)),
    ]
    rows = [{"number": n, "kind": kind, "text": text} for n, (kind, text) in enumerate(texts, 1)]
    connection.execute(insert(schema.label), rows)
    return {(row["kind"], row["text"]): row["number"] for row in rows}  # type: ignore[index,misc]


def _job_row(number: int, job: MadeJob, labels: Labels) -> dict[str, Any]:
    error_class = job.error.partition(":")[0].rpartition(".")[2] if job.error else None
    location = "shop/tasks.py:{0} in step_{0}".format(job.error[-1]) if job.error else None
    connection_id = CONNECTIONS[job.connection - 1]
    return {
        "number": number,
        "uuid": job_uuid(connection_id, job.external_id),
        "connection": job.connection,
        "external_id": job.external_id,
        "framework": 0,
        "name": labels[LabelKind.NAME, job.task.name],
        "queue": labels[LabelKind.QUEUE, job.task.queue],
        "worker": labels[LabelKind.WORKER, job.worker] if job.worker else None,
        "error_class": labels[LabelKind.ERROR_CLASS, error_class] if error_class else None,
        "state": JOB_STATES.index(job.state),
        "attempt": 1,
        "created_at": job.created,
        "changed_at": job.completed or job.started or job.created,
        "started_at": job.started,
        "completed_at": job.completed,
        "scheduled_for": job.created + 60 * _MINUTE if job.state in _HELD else None,
        "expires_at": job.created + 30 * _MINUTE if job.state is JobState.QUEUED else None,
        "duration_ms": job.duration_ms,
        "error": job.error,
        "root_id": job.root_id,
        "group_id": job.group_id,
        "error_location": labels[LabelKind.ERROR_LOCATION, location] if location else None,
        "parent": job_uuid(connection_id, job.root_id) if job.root_id else None,
        "fold": None,
    }


def _step_rows(number: int, job: MadeJob, labels: Labels) -> Iterator[dict[str, Any]]:
    times = (job.created, job.started, job.completed)
    states = (JobState.QUEUED, JobState.ACTIVE, job.state)
    for n, (state, at) in enumerate(zip(states, times, strict=True)):
        if at is None:
            continue
        fields: dict[str, Any] = {"state": state.value, "queue": job.task.queue, "attempt": 1}
        fields |= {"createdAt": timestamp_of(job.created)} if n == 0 else {"workerId": job.worker}
        fields |= {"startedAt": timestamp_of(job.started)} if n and job.started is not None else {}
        fields |= {"completedAt": timestamp_of(at)} if n == 2 else {}
        fields |= {"error": job.error} if n == 2 and job.error else {}
        body = json.dumps([timestamp_of(at), fields]).encode()
        key = number.to_bytes(7, "big") + bytes([n])
        yield {"job": number, "key": key, "name": labels[LabelKind.NAME, job.task.name], "body": body}


def _count(totals: _Totals, job: MadeJob, labels: Labels) -> None:
    name, queue = labels[LabelKind.NAME, job.task.name], labels[LabelKind.QUEUE, job.task.queue]
    totals.tallies[job.connection, JOB_STATES.index(job.state)] += 1
    measures = [(Measure.QUEUED, job.created, 0)]
    if job.started is not None:
        measures.append((Measure.STARTED, job.started, bucket_of((job.started - job.created) // 1_000)))
    if job.completed is not None and job.worker is not None:
        measure = _MEASURES[job.state]
        measures.append((measure, job.completed, bucket_of(job.duration_ms or 0)))
        counts = totals.workers.setdefault(
            (job.connection, job.completed // _MINUTE, labels[LabelKind.WORKER, job.worker]), [0, 0]
        )
        counts[measure is Measure.FAILED] += 1
    for measure, at, bucket in measures:
        minute = at // _MINUTE
        if at >= NOW - 48 * 60 * _MINUTE:
            totals.rollups[job.connection, 1, minute, name, queue, measure, bucket] += 1
        for length, each_name in product((schema.HOUR, schema.DAY), (name, schema.ALL_NAMES)):
            totals.rollups[job.connection, length, minute - minute % length, each_name, queue, measure, bucket] += 1


def _put_totals(connection: Connection, totals: _Totals) -> None:
    _put(connection, schema.tally, ((*key, count) for key, count in totals.tallies.items()))
    _put(connection, schema.rollup, ((*key, count) for key, count in totals.rollups.items()))
    _put(connection, schema.worker_rollup, ((*key, *counts) for key, counts in totals.workers.items()))


def _put_workers_and_queues(connection: Connection, labels: Labels, connections: int, chance: random.Random) -> None:
    numbers = range(1, connections + 1)
    workers = [(text, number) for (kind, text), number in labels.items() if kind is LabelKind.WORKER]
    queues = [(text, number) for (kind, text), number in labels.items() if kind is LabelKind.QUEUE]
    online = WORKER_STATES.index(WorkerState.ONLINE)
    _put(
        connection,
        schema.worker,
        (
            (
                each,
                number,
                NOW - _SECOND,
                NOW - _SPAN,
                NOW - _SECOND,
                online,
                NOW - _SPAN,
                chance.randrange(5),
                0,
                _worker_body(text),
            )
            for each in numbers
            for text, number in workers
        ),
    )
    depths = [((each, number), chance.randrange(1_000)) for each in numbers for _, number in queues]
    _put(connection, schema.queue, ((*key, NOW - _SECOND, NOW - _SPAN, depth, 3, 0) for key, depth in depths))


def _worker_body(hostname: str) -> bytes:
    body = {"externalId": hostname, "hostname": hostname, "pid": 4711, "state": "online", "concurrency": 8}
    return json.dumps({**body, "queues": ["queue-00"], "metadata": {"software": "celery"}}).encode()


def _put(connection: Connection, table: Table, rows: Iterable[Sequence[Any]]) -> None:
    names = [column.name for column in table.columns]
    remaining = (dict(zip(names, row, strict=True)) for row in rows)
    while chunk := list(islice(remaining, _CHUNK)):
        connection.execute(insert(table), chunk)
