"""The list of workers: their latest state, and how many jobs they ended in the last hour.

A worker that is silent for longer than its heartbeat allows is shown as offline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select

from sluice_agent.model import Framework, WorkerState
from sluice_agent.server.queries.labels import find_labels, texts_of
from sluice_agent.server.record.ids import worker_id
from sluice_agent.server.record.worker_process import PROCESS, WorkerProcess
from sluice_agent.server.store.codes import FRAMEWORKS, WORKER_STATES
from sluice_agent.server.store.schema import LabelKind, series, worker, worker_rollup
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none

SHORTEST_SILENCE = 6_000_000
"""Microseconds without a sign of life after which no worker is offline before: the contract's."""

_HOUR = 3_600_000_000
_MINUTE = 60_000_000
_BEATS = 2.5  # intervals of its heartbeat after which a worker is offline
_USUAL_INTERVAL = 5_000_000  # of the agent's heartbeat, for a worker that has reported once
_INTERVALS = ("heartbeatInterval", "heartbeatFreq")  # in metadata, in seconds: our agent's name, and the vendor's
_LONGEST_INTERVAL = 120_000_000  # a longer gap is a silence
_POINTS = 8  # latest reports from which the interval is read


class WorkerSort(str, Enum):
    """Fields by which workers can be sorted."""

    HOSTNAME = "hostname"
    STATE = "state"
    ACTIVE_JOBS = "activeJobs"
    LAST_HEARTBEAT = "lastHeartbeat"
    TASK_RATE = "taskRate"


class SilentWorker(NamedTuple):
    """A worker that stopped reporting without a report of its end. `silent_since` is the moment of its last event."""

    external_id: str
    hostname: str
    silent_since: int
    active_jobs: int


def list_workers(
    reader: Connection,
    connections: Mapping[str, int],
    state: WorkerState | None,
    framework: Framework | None,
    now: int,
) -> list[dict[str, Any]]:
    """Return the workers of `connections`. One that is silent for an hour is only among the offline ones."""
    statement = select(worker).where(worker.c.connection.in_(connections.values()))
    if state is not WorkerState.OFFLINE:
        statement = statement.where(worker.c.at >= now - _HOUR)
    rows = reader.execute(statement).all()
    texts = texts_of(reader, (row.worker for row in rows))
    ended = _ended_in_hour(reader, connections, now)
    ids = {number: id_ for id_, number in connections.items()}
    workers = (
        _worker(reader, row, ids[row.connection], texts[row.worker], ended.get((row.connection, row.worker), 0), now)
        for row in rows
    )
    return [shown for shown in workers if state in (None, shown["state"]) and framework in (None, shown["framework"])]


def find_worker(reader: Connection, connection: tuple[str, int], external_id: str, now: int) -> dict[str, Any] | None:
    """Return one worker of a connection (id and number), however long it is silent; None if there is none."""
    labels = find_labels(reader, LabelKind.WORKER, [external_id])
    statement = select(worker).where(worker.c.connection == connection[1], worker.c.worker.in_(labels))
    row = reader.execute(statement).one_or_none()
    if row is None:
        return None
    ended = _ended_in_hour(reader, dict([connection]), now)
    return _worker(reader, row, connection[0], external_id, ended.get((row.connection, row.worker), 0), now)


def silent_workers(reader: Connection, connection: int, now: int) -> list[SilentWorker]:
    """Return the workers that became silent in the last hour, the last one first."""
    statement = select(worker).where(
        worker.c.connection == connection,
        worker.c.at >= now - _HOUR,
        worker.c.state != WORKER_STATES.index(WorkerState.OFFLINE),
    )
    rows = [row for row in reader.execute(statement.order_by(worker.c.at.desc())) if is_offline(reader, row, now)]
    texts = texts_of(reader, (row.worker for row in rows))
    return [
        SilentWorker(texts[row.worker], json.loads(row.body)["hostname"], row.at, row.active_jobs or 0) for row in rows
    ]


def _worker(
    reader: Connection, row: Row[Any], connection_id: str, external_id: str, ended: int, now: int
) -> dict[str, Any]:
    body = json.loads(row.body)
    metadata = _metadata(body)
    allowed = _allowed_silence(reader, row, metadata, now)
    state = WorkerState.OFFLINE if now - row.at > allowed else WORKER_STATES[row.state]
    processed = metadata.get("processedTotal")
    return {
        "id": worker_id(connection_id, external_id),
        "externalId": external_id,
        "framework": FRAMEWORKS[row.framework].value,
        "connectionId": connection_id,
        "hostname": body["hostname"],
        "pid": body.get("pid"),
        "state": state.value,
        "lastHeartbeat": timestamp_or_none(row.last_heartbeat),
        "concurrency": body.get("concurrency"),
        "activeJobs": 0 if state is WorkerState.OFFLINE else row.active_jobs or 0,
        "queues": body.get("queues") or [],
        "metadata": metadata,
        "taskRate": round(ended / 60, 3),
        "processedTotal": processed if type(processed) is int and processed >= 0 else None,
        "extensions": {"offlineAfterSeconds": allowed / 1_000_000},
        "createdAt": timestamp_of(row.first_seen),
    }


def is_offline(reader: Connection, row: Row[Any], now: int) -> bool:
    """Return whether a worker, by its row, has reported that it is offline, or is silent for too long."""
    if WORKER_STATES[row.state] is WorkerState.OFFLINE:
        return True
    return bool(now - row.at > _allowed_silence(reader, row, _metadata(json.loads(row.body)), now))


def process_began(row: Row[Any]) -> int | None:
    """Return the moment before which the present process of a worker, by its row, has started no job; None if that is
    not known."""
    process = WorkerProcess.parse(json.loads(row.body).get(PROCESS))
    return None if process is None else process.began


def _metadata(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (body.get("metadata") or {}).items() if key != "eventId"}


def _allowed_silence(reader: Connection, row: Row[Any], metadata: Mapping[str, Any], now: int) -> int:
    """Return the microseconds without a sign of life after which the worker is offline."""
    return max(SHORTEST_SILENCE, round(_BEATS * _interval(reader, row, metadata, now)))


def _interval(reader: Connection, row: Row[Any], metadata: Mapping[str, Any], now: int) -> int:
    """Return the microseconds between two heartbeats: as the worker names them, else the longest of its last gaps."""
    for name in _INTERVALS:
        seconds = metadata.get(name)
        if isinstance(seconds, (int, float)) and 0 < seconds <= _LONGEST_INTERVAL / 1_000_000:
            return round(seconds * 1_000_000)
    if now - row.at <= SHORTEST_SILENCE:
        return _USUAL_INTERVAL  # it is online in any case
    latest = (
        select(series.c.at)
        .where(series.c.connection == row.connection, series.c.label == row.worker, series.c.at <= now)
        .order_by(series.c.at.desc())
        .limit(_POINTS)
    )
    points = list(reader.scalars(latest))
    gaps = (later - earlier for later, earlier in pairwise(points))
    return max((gap for gap in gaps if gap <= _LONGEST_INTERVAL), default=_USUAL_INTERVAL)


def _ended_in_hour(reader: Connection, connections: Mapping[str, int], now: int) -> dict[tuple[int, int], int]:
    """Return the number of jobs that each worker ended in the last hour."""
    ended = func.sum(worker_rollup.c.completed + worker_rollup.c.failed)
    statement = (
        select(worker_rollup.c.connection, worker_rollup.c.worker, ended)
        .where(worker_rollup.c.connection.in_(connections.values()), worker_rollup.c.start > (now - _HOUR) // _MINUTE)
        .group_by(worker_rollup.c.connection, worker_rollup.c.worker)
    )
    return {(connection, label): int(count) for connection, label, count in reader.execute(statement)}
