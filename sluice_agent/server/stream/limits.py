"""The sizes and times of the stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of memory, and times in seconds."""

    tick: float = 0.1
    """Frames of one tick are joined into one chunk."""

    heartbeat: float = 15.0
    """Between two heartbeats, as the contract has it."""

    send: float = 15.0
    """A subscriber that takes longer for one chunk is cut off."""

    access: float = 30.0
    """Between two checks whether the client may still read: its key may be revoked, its session may end."""

    subscriber_chunks: int = 64
    """Chunks that wait for one subscriber, which is cut off if there are more."""

    subscriber_bytes: int = 1_000_000
    """Bytes in the chunks that wait for one subscriber. A single chunk may be larger."""

    ring_frames: int = 16_384
    """Latest frames of all connections together that are kept in memory."""

    ring_bytes: int = 4_000_000
    """Bytes of these frames."""

    handover_frames: int = 65_536
    """Frames that wait for the event loop. Beyond these it reads them from the database."""

    page: int = 1_000
    """Frames that a resuming subscriber gets at once."""


STREAM_LIMITS = StreamLimits()
