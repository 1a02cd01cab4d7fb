"""The frames of the stream: which change of a job's record, of a worker or of a queue sends which frame."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import UUID

from sluice_agent.server.record.summary import Summary
from sluice_agent.server.timestamps import timestamp_of

JOB_STATE_CHANGE = "job:state_change"
WORKER_STATE_CHANGE = "worker:state_change"
WORKER_HEARTBEAT = "worker:heartbeat"
QUEUE_SNAPSHOT = "queue:snapshot"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Frame:
    """An event of the stream: its type, and its data as JSON in one line."""

    event: str
    data: str


def job_frame(uuid: bytes, before: Summary | None, after: Summary) -> Frame | None:
    """Return the frame for the change of a job's summary, None if its present state is the same.

    A report of progress is a frame whose state is also the previous one.
    """
    entry, previous, moment = after.history.entry, after.history.previous_state, after.changed_at
    progress: float | None = None
    if before is not None and before.history.entry[:3] == entry[:3]:
        progress = after.history.run.progress
        if progress is None or progress == before.history.run.progress:
            return None
        previous, moment = entry.state, after.reported_at
    data = {
        "id": str(UUID(bytes=uuid)),
        "name": after.facts.name,
        "state": entry.state,
        "previousState": previous,
        "timestamp": timestamp_of(moment),
    }
    if progress is not None:
        data["progress"] = progress  # type: ignore[assignment]
    return Frame(JOB_STATE_CHANGE, _encode(data))


def worker_frame(event: str, worker_id: str, hostname: str, state: str, active_jobs: int | None) -> Frame:
    """Return the frame of a worker's event: `WORKER_HEARTBEAT` or `WORKER_STATE_CHANGE`."""
    return Frame(event, _encode({"id": worker_id, "hostname": hostname, "state": state, "activeJobs": active_jobs}))


def queue_frame(name: str, depth: int, consumers: int | None) -> Frame:
    """Return the frame of a queue's snapshot."""
    return Frame(QUEUE_SNAPSHOT, _encode({"name": name, "depth": depth, "consumers": consumers}))
