"""One connection in the hub: the frames that arrived for it, and its subscribers."""

from __future__ import annotations

import asyncio
from datetime import datetime

from sluice_agent.server.stream.encoding import encode_frame, encode_heartbeat, without_superseded
from sluice_agent.server.stream.frame_types import Types, type_of
from sluice_agent.server.stream.ring import Recent
from sluice_agent.server.stream.spans import PlacedFrame, Span
from sluice_agent.server.stream.subscriber import Subscriber


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
        self._epoch = epoch
        self._unpublished: list[Span] = []
        self._subscribers: dict[Types, set[Subscriber]] = {}

    @property
    def published(self) -> int:
        return self._unpublished[0].first - 1 if self._unpublished else self.received

    @property
    def has_subscribers(self) -> bool:
        return bool(self._subscribers)

    def join(self, subscriber: Subscriber, types: Types) -> int:
        """Add a subscriber of everything after the position that is returned."""
        self._subscribers.setdefault(types, set()).add(subscriber)
        return self.published

    def leave(self, subscriber: Subscriber, types: Types) -> None:
        """Remove a subscriber, which may have left before."""
        subscribers = self._subscribers.get(types, set())
        subscribers.discard(subscriber)
        if not subscribers:
            self._subscribers.pop(types, None)
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
            if chunk := self.encode(kept, types):
                _put(chunk, subscribers)

    def encode(self, frames: list[PlacedFrame], types: Types) -> bytes:
        """Return those of `frames` that are of these types, as bytes of a stream."""
        return b"".join(encode_frame(self._epoch, *placed) for placed in frames if type_of(placed[1].event) in types)

    def beat(self, now: datetime) -> None:
        """Give every subscriber a heartbeat."""
        if not self._subscribers:
            return
        chunk = encode_heartbeat(self._epoch, self.published, now)
        for subscribers in self._subscribers.values():
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
