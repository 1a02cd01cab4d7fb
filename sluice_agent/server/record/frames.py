"""The frames of the stream: which change of a job's record, of a worker or of a queue sends which frame."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from sluice_agent.server.record.history import Entry
from sluice_agent.server.record.summary import Summary
from sluice_agent.server.timestamps import timestamp_of

JOB_STATE_CHANGE = "job:state_change"
WORKER_STATE_CHANGE = "worker:state_change"
WORKER_HEARTBEAT = "worker:heartbeat"
QUEUE_SNAPSHOT = "queue:snapshot"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Frame(NamedTuple):
    """An event of the stream: its type, and its data as JSON in one line."""

    event: str
    data: str


class FrameBlock:
    """Frames of one connection that follow each other, as the database has them: `body` is a line for each.

    A frame in it takes a third of the memory that it takes as an object.
    """

    __slots__ = ("_length", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._length = body.count(b"\n")

    @classmethod
    def of(cls, frames: Iterable[Frame]) -> FrameBlock:
        """Return the block of `frames`."""
        return cls("".join([f"{event} {data}\n" for event, data in frames]).encode())

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Frame]:
        for line in self.body.decode().split("\n")[:-1]:
            event, _, data = line.partition(" ")
            yield Frame(event, data)


def job_frame(uuid: bytes, before: Summary | None, after: Summary) -> Frame | None:
    """Return the frame for the change of a job's summary, None if its present state is the same.

    A report of progress is a frame whose state is also the previous one.
    """
    entry, previous, moment = after.history.entry, after.history.previous_state, after.changed_at
    tail = "}"
    if before is not None and _is_same_state(before.history.entry, entry):
        progress = after.history.run.progress
        if progress is None or progress == before.history.run.progress:
            return None
        previous, moment, tail = entry.state, after.reported_at, f',"progress":{progress}}}'
    text = uuid.hex()
    # Built by hand, as it is made for nearly each event: an encoder takes three times as long.
    return Frame(
        JOB_STATE_CHANGE,
        f'{{"id":"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}","name":{_quoted(after.facts.name)},'
        f'"state":"{entry.state}","previousState":{_quoted(previous)},"timestamp":"{timestamp_of(moment)}"{tail}',
    )


def _is_same_state(before: Entry, after: Entry) -> bool:
    return before.state == after.state and before.at == after.at and before.attempt == after.attempt


def worker_frame(event: str, worker_id: str, hostname: str, state: str, active_jobs: int | None) -> Frame:
    """Return the frame of a worker's event: `WORKER_HEARTBEAT` or `WORKER_STATE_CHANGE`."""
    return Frame(event, _encode({"id": worker_id, "hostname": hostname, "state": state, "activeJobs": active_jobs}))


def queue_frame(name: str, depth: int, consumers: int | None) -> Frame:
    """Return the frame of a queue's snapshot."""
    return Frame(QUEUE_SNAPSHOT, _encode({"name": name, "depth": depth, "consumers": consumers}))


@lru_cache(maxsize=1024)
def _quoted(text: str | None) -> str:
    return _encode(text)
