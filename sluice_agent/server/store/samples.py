"""The events of workers and queues in one transaction: a point of a series each, and the latest row of the subject.

The latest event decides, whatever the order of arrival; earlier ones fill in what it does not name. An event of the
future counts from its receipt: a worker whose clock is ahead would else stay online, and outdo its later events. The
series keep the event's own time, by which its copies are found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sluice_agent.model import encode
from sluice_agent.server.record.frames import WORKER_HEARTBEAT, WORKER_STATE_CHANGE, Frame, queue_frame, worker_frame
from sluice_agent.server.record.ids import worker_id
from sluice_agent.server.record.worker_process import PROCESS, WorkerProcess, process_after
from sluice_agent.server.store.codes import FRAMEWORK_CODES, WORKER_STATE_CODES, WORKER_STATES
from sluice_agent.server.store.driver import Driver, QueueRow, SeriesRow, WorkerRow
from sluice_agent.server.store.memory import Memory
from sluice_agent.server.store.schema import LabelKind
from sluice_agent.server.store.steps import key_of
from sluice_agent.server.timestamps import to_instant
from sluice_agent.server.validation import ReceivedEvent

_HEARTBEAT = WORKER_STATE_CODES["heartbeat"]
_OFFLINE = WORKER_STATE_CODES["offline"]
_ONLINE = WORKER_STATE_CODES["online"]

SeriesKey = tuple[int, int, int, bytes]
"""The key of a point: connection, label, moment, and the event's key."""


class _Sample(NamedTuple):
    """A new event; `at` is its moment, or that of its receipt if it is of the future."""

    key: SeriesKey
    at: int
    event: ReceivedEvent


class Samples:
    """The events of workers and queues of a transaction at the moment `now`.

    `connections` are the numbers of connections by their ids.
    """

    def __init__(self, driver: Driver, memory: Memory, connections: dict[str, int], now: int) -> None:
        self._now = now
        self._driver = driver
        self._memory = memory
        self._connections = connections
        self._known: set[SeriesKey] = set()
        self._added: list[_Sample] = []

    def load(self, events: Sequence[ReceivedEvent]) -> list[SeriesKey]:
        """Return the key of each of `events`, and read which are in the database."""
        if not events:
            return []
        subjects = [_subject_of(event) for event in events]
        labels = {
            kind: self._memory.labels(kind, {text for subject, text in subjects if subject is kind})
            for kind in (LabelKind.WORKER, LabelKind.QUEUE)
        }
        keys = [
            (self._connections[event["connectionId"]], labels[kind][text], _moment(event), key_of(event))
            for event, (kind, text) in zip(events, subjects, strict=True)
        ]
        self._known = self._driver.known_series(sorted(set(keys)))
        return keys

    def is_new(self, key: SeriesKey) -> bool:
        """Return whether the event with `key` is neither in the database nor added."""
        return key not in self._known

    def add(self, key: SeriesKey, event: ReceivedEvent) -> None:
        """Add a new event."""
        self._known.add(key)
        self._added.append(_Sample(key, min(key[2], self._now), event))

    def put(self) -> list[tuple[int, Frame]]:
        """Write all that the added events change, and return the frames of that, each with its connection."""
        if not self._added:
            return []
        self._driver.put_series([_series_row(sample) for sample in self._added])
        workers = [sample for sample in self._added if "worker" in sample.event]
        queues = [sample for sample in self._added if "queue" in sample.event]
        return [*self._put_workers(workers), *self._put_queues(queues)]

    def _put_workers(self, samples: Sequence[_Sample]) -> list[tuple[int, Frame]]:
        frames: list[tuple[int, Frame]] = []
        stored = self._driver.workers(sorted({sample.key[:2] for sample in samples}))
        rows = {(row.connection, row.worker): _until(self._now, row) for row in stored}
        for sample in samples:
            connection, label, at = *sample.key[:2], sample.at
            before = rows.get((connection, label))
            row = rows[connection, label] = _worker_row(before, sample)
            if row.at == at or (before is not None and row.state != before.state):
                frames.append((connection, _worker_frame(before, row, sample.event)))
        self._driver.put_workers(rows.values())
        return frames

    def _put_queues(self, samples: Sequence[_Sample]) -> list[tuple[int, Frame]]:
        frames: list[tuple[int, Frame]] = []
        stored = self._driver.queues(sorted({sample.key[:2] for sample in samples}))
        rows = {(row.connection, row.queue): row._replace(at=min(row.at, self._now)) for row in stored}
        for sample in samples:
            connection, label, at = *sample.key[:2], sample.at
            row = rows[connection, label] = _queue_row(rows.get((connection, label)), sample)
            if row.at == at:
                queue = sample.event["queue"]
                frames.append((connection, queue_frame(queue["name"], queue["depth"], queue.get("consumers"))))
        self._driver.put_queues(rows.values())
        return frames


def _subject_of(event: ReceivedEvent) -> tuple[LabelKind, str]:
    if "worker" in event:
        return LabelKind.WORKER, event["worker"]["externalId"]
    return LabelKind.QUEUE, event["queue"]["name"]


def _moment(event: ReceivedEvent) -> int:
    return to_instant(event["timestamp"]) // 1000


def _series_row(sample: _Sample) -> SeriesRow:
    if "queue" in sample.event:
        queue = sample.event["queue"]
        return SeriesRow(*sample.key, queue["depth"], queue.get("consumers"), None)
    worker = sample.event["worker"]
    return SeriesRow(*sample.key, worker.get("activeJobs"), None, _load(worker.get("metadata") or {}))


def _load(metadata: dict[str, Any]) -> float | None:
    """Return the load of the last minute, if the metadata have it as Celery's heartbeats do."""
    loads = metadata.get("loadavg")
    first = loads[0] if isinstance(loads, list) and loads else None
    return float(first) if isinstance(first, (int, float)) and abs(first) < 1e9 else None


def _until(now: int, row: WorkerRow) -> WorkerRow:
    """Return the row without moments of the future, which servers before this one have written."""
    if max(row.at, row.last_heartbeat or row.at, row.state_at or row.at) <= now:
        return row
    beat, state_at = row.last_heartbeat, row.state_at
    return row._replace(
        at=min(row.at, now),
        last_heartbeat=None if beat is None else min(beat, now),
        state_at=None if state_at is None else min(state_at, now),
    )


def _worker_row(before: WorkerRow | None, sample: _Sample) -> WorkerRow:
    """Return the worker's row after `sample`."""
    connection, label, at = *sample.key[:2], sample.at
    worker = sample.event["worker"]
    reported, framework = WORKER_STATE_CODES[worker["state"]], FRAMEWORK_CODES[sample.event["framework"]]
    beats = [] if reported == _OFFLINE else [at]
    if before is not None and before.last_heartbeat is not None:
        beats.append(before.last_heartbeat)
    beat = max(beats, default=None)
    state, state_at = _state_of_worker(before, reported, at, beat)
    if before is None:
        active_jobs = worker.get("activeJobs")
        body = encode({**worker, PROCESS: process_after(None, worker, at, None).to_json()})
        return WorkerRow(connection, label, at, at, beat, state, state_at, active_jobs, framework, body)
    known = json.loads(before.body)
    is_latest = at >= before.at
    process = process_after(WorkerProcess.parse(known.get(PROCESS)), worker, at, before.at)
    merged = {**({**known, **worker} if is_latest else {**worker, **known}), PROCESS: process.to_json()}
    return WorkerRow(
        connection,
        label,
        max(at, before.at),
        min(at, before.first_seen),
        beat,
        state,
        state_at,
        merged.get("activeJobs"),
        framework,
        encode(merged),
    )


def _state_of_worker(before: WorkerRow | None, reported: int, at: int, beat: int | None) -> tuple[int, int | None]:
    """Return the worker's state after a report, and the moment of the latest report of a state. A heartbeat only shows
    that the worker is alive."""
    state, state_at = (_ONLINE, None) if before is None else (before.state, before.state_at)
    if reported != _HEARTBEAT and (state_at is None or at >= state_at):
        state, state_at = reported, at
    is_back = state == _OFFLINE and beat is not None and state_at is not None and beat > state_at
    return _ONLINE if is_back else state, state_at


def _worker_frame(before: WorkerRow | None, row: WorkerRow, event: ReceivedEvent) -> Frame:
    """Return the frame of a worker: a change of its state, or a heartbeat."""
    is_change = before is None or before.state != row.state
    return worker_frame(
        WORKER_STATE_CHANGE if is_change else WORKER_HEARTBEAT,
        worker_id(event["connectionId"], event["worker"]["externalId"]),
        event["worker"]["hostname"],
        WORKER_STATES[row.state].value,
        row.active_jobs,
    )


def _queue_row(before: QueueRow | None, sample: _Sample) -> QueueRow:
    """Return the queue's row after `sample`."""
    connection, label, at = *sample.key[:2], sample.at
    queue, framework = sample.event["queue"], FRAMEWORK_CODES[sample.event["framework"]]
    row = QueueRow(connection, label, at, at, queue["depth"], queue.get("consumers"), framework)
    if before is None:
        return row
    first_seen = min(at, before.first_seen)
    return row._replace(first_seen=first_seen) if at >= before.at else before._replace(first_seen=first_seen)
