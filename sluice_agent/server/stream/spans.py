"""Frames of one connection whose positions follow each other."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_agent.server.record.frames import Frame, FrameBlock

PlacedFrame = tuple[int, Frame]
"""A frame with its position."""


@dataclass(frozen=True, slots=True)
class Span:
    """The frames at the positions from `first` on."""

    first: int
    frames: FrameBlock

    @property
    def last(self) -> int:
        """The position of the last frame."""
        return self.first + len(self.frames) - 1

    def after(self, position: int) -> Span:
        """Return the frames after `position`."""
        cut = position + 1 - self.first
        return Span(self.first + cut, FrameBlock.of(list(self.frames)[cut:])) if cut > 0 else self

    def placed(self, after: int = 0) -> list[PlacedFrame]:
        """Return each frame after a position, with its own."""
        return list(enumerate(self.frames, self.first))[max(0, after + 1 - self.first) :]
