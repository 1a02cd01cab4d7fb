"""The frames of the stream: which change of a job's record, of a worker or of a queue sends which frame."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import Struct
from msgspec.json import Decoder, Encoder

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


class JobFrame(Struct, frozen=True, gc=False, array_like=True):
    """The change of a job's record, as it is stored. Its text is made when it is read, as few are; `moment` is in
    microseconds since 1970. `progress` is that of a frame which reports it."""

    uuid: bytes
    name: str
    state: str
    previous: str | None
    moment: int
    progress: float | None = None

    @property
    def frame(self) -> Frame:
        """The event of the stream."""
        fields: dict[str, Any] = {
            "id": str(UUID(bytes=self.uuid)),
            "name": self.name,
            "state": self.state,
            "previousState": self.previous,
            "timestamp": timestamp_of(self.moment),
        }
        return Frame(
            JOB_STATE_CHANGE, _encode(fields if self.progress is None else {**fields, "progress": self.progress})
        )


_encode_lines = Encoder().encode_lines
_decode_line = Decoder(JobFrame).decode


class FrameBlock:
    """Frames of one connection that follow each other, as the database has them: `body` is a line for each.

    A frame in it takes a fifth of the memory that it takes as an object.
    """

    __slots__ = ("_length", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self._length = body.count(b"\n")

    @classmethod
    def of(cls, frames: Sequence[Frame | JobFrame]) -> FrameBlock:
        """Return the block of `frames`."""
        if all(type(frame) is JobFrame for frame in frames):
            return cls(_encode_lines(frames))
        return cls(b"".join([_line_of(frame) for frame in frames]))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Frame]:
        for line in self.body.split(b"\n")[:-1]:
            if line.startswith(b"["):
                yield _decode_line(line).frame
            else:
                event, _, data = line.decode().partition(" ")
                yield Frame(event, data)


def _line_of(frame: Frame | JobFrame) -> bytes:
    return _encode_lines([frame]) if isinstance(frame, JobFrame) else f"{frame.event} {frame.data}\n".encode()


def job_frame(uuid: bytes, before: Summary | None, after: Summary) -> JobFrame | None:
    """Return the frame for the change of a job's summary, None if its present state is the same.

    A report of progress is a frame whose state is also the previous one.
    """
    history = after.history
    entry, name = history.entry, after.facts.name
    if before is not None and _is_same_state(before.history.entry, entry):
        progress = history.run.progress
        if progress is None or progress == before.history.run.progress:
            return None
        return JobFrame(uuid, name, entry.state, entry.state, after.reported_at, progress)
    return JobFrame(uuid, name, entry.state, history.previous or entry.reported_previous, entry.at // 1_000)


def _is_same_state(before: Entry, after: Entry) -> bool:
    return before.state == after.state and before.at == after.at and before.attempt == after.attempt


def worker_frame(event: str, worker_id: str, hostname: str, state: str, active_jobs: int | None) -> Frame:
    """Return the frame of a worker's event: `WORKER_HEARTBEAT` or `WORKER_STATE_CHANGE`."""
    return Frame(event, _encode({"id": worker_id, "hostname": hostname, "state": state, "activeJobs": active_jobs}))


def queue_frame(name: str, depth: int, consumers: int | None) -> Frame:
    """Return the frame of a queue's snapshot."""
    return Frame(QUEUE_SNAPSHOT, _encode({"name": name, "depth": depth, "consumers": consumers}))
