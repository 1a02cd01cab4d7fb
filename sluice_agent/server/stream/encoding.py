"""Frames as bytes of a server-sent event stream. Pure functions. `prefix` is that of the connection's ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sluice_agent.server.record.frames import Frame
from sluice_agent.server.stream.spans import PlacedFrame
from sluice_agent.server.stream.stream_id import stream_id

RETRY_MILLISECONDS = 2_000
"""The time after which a browser reconnects."""


def encode_start(prefix: str, position: int) -> bytes:
    """Return the first bytes of a stream: a client that is cut off before the first frame resumes from `position`."""
    return f"retry: {RETRY_MILLISECONDS}\n".encode() + encode_position(prefix, position)


def encode_position(prefix: str, position: int) -> bytes:
    """Return a block without data: a client dispatches no event, and resumes from `position`."""
    return f"id: {stream_id(prefix, position)}\n\n".encode()


def encode_frame(prefix: str, position: int, frame: Frame) -> bytes:
    """Return one frame."""
    return f"id: {stream_id(prefix, position)}\nevent: {frame.event}\ndata: {frame.data}\n\n".encode()


def encode_heartbeat(prefix: str, position: int, now: datetime) -> bytes:
    """Return a heartbeat. Its id moves on also for a subscriber none of whose types occur."""
    timestamp = now.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
    return encode_frame(prefix, position, Frame("heartbeat", json.dumps({"timestamp": timestamp})))


def encode_reset(prefix: str, position: int, missed: int | None) -> bytes:
    """Return the notice that frames before `position` can't be sent: `missed` of them, None if that is unknown."""
    return encode_frame(prefix, position, Frame("stream:reset", json.dumps({"missed": missed})))


def without_superseded(frames: Sequence[PlacedFrame]) -> list[PlacedFrame]:
    """Return `frames` with only the last progress of each job and the last heartbeat of each worker.

    Changes of a state are never left out.
    """
    seen: set[tuple[str, str]] = set()
    kept: list[PlacedFrame] = []
    for placed in reversed(frames):
        frame = placed[1]
        if frame.event == "worker:heartbeat" or (frame.event == "job:state_change" and '"progress":' in frame.data):
            subject = frame.event, json.loads(frame.data)["id"]
            if subject in seen:
                continue
            seen.add(subject)
        kept.append(placed)
    kept.reverse()
    return kept
