"""The latest frames of all connections, for subscribers that resume. Beyond its bounds the oldest go first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sluice_agent.server.stream.spans import PlacedFrame, Span

_OVERHEAD = 250  # bytes of a span beside its frames


@dataclass(slots=True)
class Recent:
    """The frames of one connection in the ring: spans that follow each other without a gap."""

    spans: deque[Span] = field(default_factory=deque)

    def reaches(self, position: int) -> bool:
        """Return whether the frame after `position` is here, and with it all later ones."""
        return bool(self.spans) and self.spans[0].first <= position + 1

    def after(self, position: int, limit: int) -> list[PlacedFrame]:
        """Return the first frames after `position`, at most `limit`."""
        placed: list[PlacedFrame] = []
        for span in self.spans:
            if len(placed) >= limit:
                break
            if span.last > position:
                placed += span.placed(position)
        return placed[:limit]


class Ring:
    """The spans of all connections in the order of their arrival."""

    def __init__(self, max_frames: int, max_bytes: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._entries: deque[tuple[Recent, Span, int]] = deque()
        self._frames = 0
        self._bytes = 0

    def add(self, recent: Recent, span: Span) -> None:
        """Add a span that follows the last one of `recent`, and remove the oldest beyond the bounds."""
        size = len(span.frames.body) + _OVERHEAD
        recent.spans.append(span)
        self._entries.append((recent, span, size))
        self._frames += len(span.frames)
        self._bytes += size
        while self._frames > self._max_frames or self._bytes > self._max_bytes:
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        recent, span, size = self._entries.popleft()
        self._frames -= len(span.frames)
        self._bytes -= size
        if recent.spans and recent.spans[0] is span:  # else `recent` was cleared since, because of a gap
            recent.spans.popleft()
