"""One client of the stream: the chunks that it has still to receive, up to a bound."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from sluice_agent.server.stream.limits import StreamLimits


class Subscriber:
    """The chunks that wait for one client. It belongs to the event loop.

    `abort` closes the client's connection without sending what is left in its buffers.
    """

    __slots__ = ("_abort", "_bytes", "_chunks", "_limits", "_wake", "has_ended", "sending_since")

    def __init__(self, limits: StreamLimits, abort: Callable[[], None]) -> None:
        self._limits = limits
        self._abort = abort
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self.has_ended = False
        self._wake = asyncio.Event()
        self.sending_since: float | None = None
        """The loop's time at which the current send began."""

    def put(self, chunk: bytes) -> None:
        """Add `chunk`; if too much waits already, cut the client off."""
        if self.has_ended:
            return
        if len(self._chunks) >= self._limits.subscriber_chunks or self._bytes >= self._limits.subscriber_bytes:
            self.cut_off()
            return
        self._chunks.append(chunk)
        self._bytes += len(chunk)
        self._wake.set()

    async def next_chunk(self) -> bytes | None:
        """Return the next chunk as soon as there is one, None after the end."""
        while not self._chunks and not self.has_ended:
            self._wake.clear()
            await self._wake.wait()
        if self.has_ended:
            return None
        chunk = self._chunks.popleft()
        self._bytes -= len(chunk)
        return chunk

    def end(self) -> None:
        """End the stream; what waits is discarded, and the client gets it when it resumes."""
        self.has_ended = True
        self._chunks.clear()
        self._wake.set()

    def cut_off(self) -> None:
        """End the stream of a client that does not read."""
        self.end()
        self._abort()

    def cut_off_if_stuck(self, now: float) -> None:
        """Cut the client off if it takes too long for one chunk."""
        if self.sending_since is not None and now - self.sending_since > self._limits.send:
            self.cut_off()
