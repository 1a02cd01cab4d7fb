"""One connection in the hub: the frames that arrived for it, and its subscribers."""

from __future__ import annotations

import asyncio
from datetime import datetime

from sluice_agent.server.stream.encoding import encode_frame, encode_heartbeat, encode_position, without_superseded
from sluice_agent.server.stream.frame_types import Types, type_of
from sluice_agent.server.stream.ring import Recent
from sluice_agent.server.stream.spans import PlacedFrame, Span
from sluice_agent.server.stream.stream_id import id_prefix
from sluice_agent.server.stream.subscriber import Subscriber

_MOST_UNSEEN = 1_000  # frames of other types after the last id that a subscriber has


class Feed:
    """The frames of one connection, in the order of their positions.

    `received` is the position of the last one that arrived, `published` of the last one that subscribers were given,
    and `known` of the last one that is known to be in the database.
    """

    def __init__(self, number: int, epoch: str, received: int) -> None:
        self.number = number
        self.received = self.known = received
        self.recent = Recent()
        self.catching_up: asyncio.Task[None] | None = None
        self.prefix = id_prefix(epoch, number)
        self._unpublished: list[Span] = []
        self._subscribers: dict[Types, set[Subscriber]] = {}
        self._seen: dict[Types, int] = {}

    @property
    def published(self) -> int:
        return self._unpublished[0].first - 1 if self._unpublished else self.received

    @property
    def has_subscribers(self) -> bool:
        return bool(self._subscribers)

    def join(self, subscriber: Subscriber, types: Types) -> int:
        """Add a subscriber of everything after the position that is returned."""
        self._subscribers.setdefault(types, set()).add(subscriber)
        self._seen.setdefault(types, self.published)
        return self.published

    def leave(self, subscriber: Subscriber, types: Types) -> None:
        """Remove a subscriber, which may have left before."""
        subscribers = self._subscribers.get(types, set())
        subscribers.discard(subscriber)
        if not subscribers:
            self._subscribers.pop(types, None)
            self._seen.pop(types, None)
        if not self._subscribers:
            self._unpublished.clear()

    def add(self, span: Span) -> None:
        """Add the frames that follow the last one."""
        self.received = span.last
        if self._subscribers:
            self._unpublished.append(span)

    def publish(self) -> None:
        """Give the subscribers what arrived since the last time: one chunk for all that chose the same types."""
        frames = [placed for span in self._unpublished for placed in span.placed()]
        self._unpublished.clear()
        kept = without_superseded(frames)
        for types, subscribers in self._subscribers.items():
            chunk = self.encode(kept, types) + self._moved_on(kept, types)
            if chunk:
                _put(chunk, subscribers)

    def _moved_on(self, frames: list[PlacedFrame], types: Types) -> bytes:
        """Return an id without data, if the subscribers of `types` have seen none of the latest positions.

        Frames of other types would push their position out of what the server keeps, and resuming would be a reset.
        """
        last_of_types = (position for position, frame in reversed(frames) if type_of(frame.event) in types)
        self._seen[types] = next(last_of_types, self._seen[types])
        if self.published - self._seen[types] < _MOST_UNSEEN:
            return b""
        self._seen[types] = self.published
        return encode_position(self.prefix, self.published)

    def encode(self, frames: list[PlacedFrame], types: Types) -> bytes:
        """Return those of `frames` that are of these types, as bytes of a stream."""
        return b"".join(encode_frame(self.prefix, *placed) for placed in frames if type_of(placed[1].event) in types)

    def beat(self, now: datetime) -> None:
        """Give every subscriber a heartbeat."""
        if not self._subscribers:
            return
        chunk = encode_heartbeat(self.prefix, self.published, now)
        for types, subscribers in self._subscribers.items():
            self._seen[types] = self.published
            _put(chunk, subscribers)

    def skip_to(self, position: int) -> None:
        """Go on after `position`, though frames before it are missing: the subscribers must resume."""
        self.publish()
        for subscribers in self._subscribers.values():
            for subscriber in subscribers:
                subscriber.end()
        self.recent.spans.clear()
        self.received = position


def _put(chunk: bytes, subscribers: set[Subscriber]) -> None:
    for subscriber in subscribers:
        subscriber.put(chunk)
