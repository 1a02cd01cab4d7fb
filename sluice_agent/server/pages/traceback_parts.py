"""A traceback in parts: the frames of libraries, which a page folds, and all the rest, which it shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from sluice_agent.server.record.error_location import Frame, frame_in

_PACKAGE = re.compile(r"[/\\](?:site|dist)-packages[/\\]([^/\\.]+)")
_DEEPER = re.compile(r"(?:[ |]*\| )?    \S?")  # a line of source below its frame
_MOST_NAMES = 3


@dataclass(frozen=True, slots=True)
class TracebackPart:
    """Lines of a traceback. `frames` counts the calls in it, and `packages` are the libraries of these; empty: it is
    not folded."""

    text: str
    frames: int = 0
    packages: Sequence[str] = ()

    @property
    def is_folded(self) -> bool:
        """True if all of it is the frames of libraries."""
        return bool(self.packages)

    @property
    def title(self) -> str:
        """What a folded part hides: ``4 frames of celery and kombu``."""
        names = [*self.packages[:_MOST_NAMES], *(["others"] if len(self.packages) > _MOST_NAMES else [])]
        listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        return f"{self.frames} {'frame' if self.frames == 1 else 'frames'} of {listed}"


@dataclass(slots=True)
class _Block:
    """The lines of one frame, or lines that belong to none."""

    frame: Frame | None
    lines: list[str] = field(default_factory=list)

    @property
    def is_library(self) -> bool:
        return self.frame is not None and self.frame.is_library


def parts_of(stacktrace: str) -> list[TracebackPart]:
    """Return the parts of a traceback, in the order of their lines."""
    parts: list[TracebackPart] = []
    for is_library, group in groupby(_blocks(stacktrace), key=lambda block: block.is_library):
        blocks = list(group)
        text = "\n".join(line for block in blocks for line in block.lines)
        frames = [block.frame for block in blocks if block.frame is not None]
        packages = list(dict.fromkeys(_package(frame) for frame in frames)) if is_library else []
        parts.append(TracebackPart(text, len(frames), packages))
    return parts


def _blocks(stacktrace: str) -> Iterator[_Block]:
    block = _Block(None)
    for line in stacktrace.rstrip("\n").split("\n"):
        frame = frame_in(line)
        if frame is not None or (block.frame is not None and not _DEEPER.match(line)):
            if block.lines:
                yield block
            block = _Block(frame)
        block.lines.append(line)
    yield block


def _package(frame: Frame) -> str:
    """Return the name of the library of a frame: its package, or Python itself."""
    match = _PACKAGE.search(frame.path)
    return match[1] if match else "Python"
