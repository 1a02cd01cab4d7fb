"""The ends of tasks of which no event comes: their deadline has passed, or their worker is silent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from sluice_agent.jobs.runs.changes import change
from sluice_agent.jobs.runs.transitions import Event, Expired, Faulted, Lost
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import is_open_task, run
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.jobs.task_events.outcomes import deadline_passed, end_attempt, retry_at, settings_of
from sluice_agent.model import JobState
from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.store import Store
from sluice_agent.server.store.codes import JOB_STATE_CODES
from sluice_agent.server.store.schema import connection, job, worker

MOST = 200
"""Runs that one transaction changes, or one query asks for."""

NO_EVENT = (
    "no event of this task has arrived: does a worker take from its queue, is the agent installed there, or a sidecar "
    "beside it, and does it report to this server?"
)
NO_CONFIRMATION = "it is not known whether the broker has the message of the task, as the connection failed meanwhile"

_BEATS = 3  # intervals of its heartbeat, after which a worker is silent
_INTERVALS = ("heartbeatInterval", "heartbeatFreq")  # of the agent, and of the vendor's SDK; in seconds
_SECOND = 1_000_000  # microseconds


def end_overdue(writer: Connection, before: int, now: int, chance: Callable[[], float]) -> int:
    """End the attempts of tasks whose next event had to come before a moment, and return how many these are."""
    rows = writer.execute(_OVERDUE, {"before": before, "most": MOST}).all()
    for row in rows:
        settings = settings_of(writer, row)
        if settings is None:
            change(writer, row, Faulted("the job of the run is gone"), now)
        elif row.status == Status.EXECUTING.value:
            end_attempt(writer, row, deadline_passed(row, settings, now, chance), settings, now)
        else:
            end_attempt(writer, row, _unanswered(row), settings, now)
    return len(rows)


def _unanswered(row: Row[Any]) -> Event:
    """Return the end of an attempt that has not begun, as far as is known."""
    if row.published_at is None:
        return Faulted(f"{NO_CONFIRMATION}, and {NO_EVENT}")
    error = NO_EVENT if row.heartbeat_at is None else "no worker has begun the task in time"
    return Expired(error) if row.first_started_at is None else Faulted(error)


@dataclass(frozen=True, slots=True)
class _Sign:
    """The moment of a sign, when it was first seen, and whether it is later than the beginning of this process."""

    value: int
    seen_at: int
    is_of_now: bool


class SilentWorkers:
    """Finds tasks whose workers are silent for longer than `silence` microseconds, or that a sidecar has lost.

    A sign of life is a heartbeat that this process sees for the first time, whatever the worker's clock is. Of a
    worker without heartbeats nothing follows, nor of one without a sign since `begin`: what it reports may wait in its
    journal, as this server was away.
    """

    def __init__(self, store: JobsStore, events: Store, silence: int, chance: Callable[[], float]) -> None:
        self._store = store
        self._events = events
        self._silence = silence
        self._chance = chance
        self._since = 0
        self._signs: dict[Any, _Sign] = {}
        """The last sign of each worker and task."""

    def begin(self, now: int) -> None:
        """Count from now on: what came before may have been seen by another process."""
        self._since, self._signs = now, {}

    def end_lost(self, now: int) -> None:
        """End the attempts of tasks whose workers are silent: the next one follows, if there is one."""
        with self._store.reading() as reader:
            tasks = {row.task_id: row.id for row in reader.execute(_EXECUTING)}
        if not tasks:
            self._signs = {}
            return
        with self._events.reading() as reader:
            lost = list(self._silent(reader, list(tasks), now))
        if not lost:
            return
        with self._store.writing() as writer:
            for task_id in lost:
                row = writer.execute(_ONE, {"run": tasks[task_id], "task": task_id}).one_or_none()
                settings = None if row is None else settings_of(writer, row)
                if row is not None and settings is not None:
                    event = Lost(retry_at(row, settings, now, self._chance))
                    end_attempt(writer, row, event, settings, now)

    def _silent(self, reader: Connection, task_ids: list[str], now: int) -> Iterator[str]:
        before, self._signs = self._signs, {}
        for connection_id in list(reader.scalars(_CONNECTIONS)):
            for start in range(0, len(task_ids), MOST):
                names = {job_uuid(connection_id, task_id): task_id for task_id in task_ids[start : start + MOST]}
                for row in reader.execute(_TASKS, {"uuids": list(names)}):
                    if self._is_silent(row, before, now):
                        yield names[row.uuid]

    def _is_silent(self, row: Row[Any], before: dict[Any, _Sign], now: int) -> bool:
        if row.state == _UNKNOWN:
            return self._age((row.uuid, None), row.changed_at, before, now) >= self._silence
        if row.state != _ACTIVE or row.last_heartbeat is None:
            return False
        allowed = max(self._silence, round(_BEATS * _interval(row.body) * _SECOND))
        key = row.connection, row.worker
        return self._age(key, row.at, before, now) >= allowed and self._signs[key].is_of_now

    def _age(self, key: Any, value: int, before: dict[Any, _Sign], now: int) -> int:
        """Return for how long this process has seen the same sign."""
        sign = self._signs.get(key) or before.get(key)
        if sign is None:
            sign = _Sign(value, now, value >= self._since)
        elif sign.value != value:
            sign = _Sign(value, now, is_of_now=True)
        self._signs[key] = sign
        return now - sign.seen_at


def _interval(body: bytes) -> float:
    """Return the seconds between two heartbeats of a worker, as far as it names them."""
    metadata = json.loads(body).get("metadata") or {}
    found = (metadata.get(name) for name in _INTERVALS)
    return next((float(value) for value in found if isinstance(value, (int, float))), 0.0)


_UNKNOWN = JOB_STATE_CODES[JobState.UNKNOWN.value]
_ACTIVE = JOB_STATE_CODES[JobState.ACTIVE.value]
_OVERDUE = (
    select(run)
    .where(is_open_task, run.c.claimed_until < bindparam("before"))
    .order_by(run.c.id)
    .limit(bindparam("most", type_=run.c.attempt.type))
    .with_for_update(skip_locked=True)
)
_IS_EXECUTING = run.c.status == Status.EXECUTING.value
_EXECUTING = select(run.c.task_id, run.c.id).where(is_open_task, _IS_EXECUTING)
_ONE = (
    select(run)
    .where(is_open_task, _IS_EXECUTING, run.c.id == bindparam("run"), run.c.task_id == bindparam("task"))
    .with_for_update()
)
_CONNECTIONS = select(connection.c.id)
_TASKS = (
    select(
        job.c.uuid,
        job.c.state,
        job.c.connection,
        job.c.worker,
        job.c.changed_at,
        worker.c.at,
        worker.c.last_heartbeat,
        worker.c.body,
    )
    .outerjoin(worker, (worker.c.connection == job.c.connection) & (worker.c.worker == job.c.worker))
    .where(job.c.uuid.in_(bindparam("uuids", expanding=True)))
)
