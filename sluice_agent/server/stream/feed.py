"""One connection in the hub: the frames that arrived for it, and its readers."""

from __future__ import annotations

import asyncio
from datetime import datetime

from sluice_agent.server.stream.encoding import encode_frame, encode_heartbeat, without_superseded
from sluice_agent.server.stream.frame_types import Types, type_of
from sluice_agent.server.stream.reader import Reader
from sluice_agent.server.stream.ring import Recent
from sluice_agent.server.stream.spans import PlacedFrame, Span


class Feed:
    """The frames of one connection, in the order of their positions.

    `received` is the position of the last one that arrived, `published` of the last one that its readers were given,
    and `known` of the last one that is known to be in the database.
    """

    def __init__(self, number: int, epoch: str, received: int) -> None:
        self.number = number
        self.received = self.known = received
        self.recent = Recent()
        self.catching_up: asyncio.Task[None] | None = None
        self._epoch = epoch
        self._unpublished: list[Span] = []
        self._readers: dict[Types, set[Reader]] = {}

    @property
    def published(self) -> int:
        return self._unpublished[0].first - 1 if self._unpublished else self.received

    @property
    def has_readers(self) -> bool:
        return bool(self._readers)

    def join(self, reader: Reader, types: Types) -> int:
        """Add a reader of everything after the position that is returned."""
        self._readers.setdefault(types, set()).add(reader)
        return self.published

    def leave(self, reader: Reader, types: Types) -> None:
        """Remove a reader, which may have left before."""
        readers = self._readers.get(types, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(types, None)
        if not self._readers:
            self._unpublished.clear()

    def add(self, span: Span) -> None:
        """Add the frames that follow the last one."""
        self.received = span.last
        if self._readers:
            self._unpublished.append(span)

    def publish(self) -> None:
        """Give the readers what arrived since the last time: one chunk for all that chose the same types."""
        frames = [placed for span in self._unpublished for placed in span.placed()]
        self._unpublished.clear()
        kept = without_superseded(frames)
        for types, readers in self._readers.items():
            if chunk := self.encode(kept, types):
                _put(chunk, readers)

    def encode(self, frames: list[PlacedFrame], types: Types) -> bytes:
        """Return those of `frames` that are of these types, as bytes of a stream."""
        return b"".join(encode_frame(self._epoch, *placed) for placed in frames if type_of(placed[1].event) in types)

    def beat(self, now: datetime) -> None:
        """Give every reader a heartbeat."""
        if not self._readers:
            return
        chunk = encode_heartbeat(self._epoch, self.published, now)
        for readers in self._readers.values():
            _put(chunk, readers)

    def skip_to(self, position: int) -> None:
        """Go on after `position`, though frames before it are missing: the readers must resume."""
        self.publish()
        for readers in self._readers.values():
            for reader in readers:
                reader.end()
        self.recent.spans.clear()
        self.received = position


def _put(chunk: bytes, readers: set[Reader]) -> None:
    for reader in readers:
        reader.put(chunk)
