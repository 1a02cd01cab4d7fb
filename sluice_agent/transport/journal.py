"""The writing side of the journal: every process appends whole lines to files of its own, one `write` a line.

No thread, no connection, and one lock, which `forget` replaces in a forked child. A line that was written outlives the
death of any process. Nothing here raises: what can't be written is counted with its reason, and the count is written
as a line of its own as soon as that is possible again.
"""

from __future__ import annotations

import errno
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.log import complain
from sluice_agent.transport.directory import EVENTS, LANES, count_writers, file_sizes
from sluice_agent.transport.reader import LOSS_PREFIX
from sluice_agent.transport.retention import Losses, ensure_room
from sluice_agent.transport.segment import SegmentWriter, share

_MANY = 64  # writers: as one asks who can't see whom it begins with
_PAUSE = 1.0  # seconds until a folder that is full, or can't be written, is tried again


class Journal:
    """Where this process writes. `append` and `drop` may be called from any thread, greenlet or signal handler."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self.unwritten: Counter[str] = Counter()
        """What was dropped here and could not be written down yet, by reason."""
        self._max_bytes = max_bytes
        self._lock = threading.RLock()  # re-entrant: an OS signal handler may publish in the middle of an append
        self._segments: dict[str, SegmentWriter] = {}
        self._writer = _mark()
        self._refusing_until = 0.0
        self._refusal = "disk"

    def append(self, line: bytes, lane: str = EVENTS) -> None:
        """Write one event, given without its newline."""
        with self._lock:
            if self.unwritten:
                self._write_losses()
            if not self._write(line, lane):
                self.unwritten[self._refusal] += 1

    @property
    def is_refusing(self) -> bool:
        """Whether an `append` now would be in vain: the folder was full, or could not be written, a moment ago."""
        return time.monotonic() < self._refusing_until

    def drop(self, reason: str) -> None:
        """Count an event that was captured and will not be sent."""
        with self._lock:
            self.unwritten[reason] += 1
            self._write_losses()

    def close(self) -> None:
        """Finish this process's files. A later `append` begins new ones."""
        with self._lock:
            self._refusing_until = 0.0  # this may be the last chance to write down what was lost
            self._write_losses()
            self._close_segments()

    def forget(self) -> None:
        """In a forked child: the parent's files and its counts stay the parent's."""
        self._lock = threading.RLock()
        self.unwritten = Counter()
        self._writer = _mark()
        while self._segments:
            self._segments.popitem()[1].close_descriptor()

    def _write(self, line: bytes, lane: str) -> bool:
        now = time.monotonic()
        if now < self._refusing_until:
            return False
        try:
            segment = self._segments.get(lane)
            if segment is None or now >= segment.due_at or len(line) >= segment.room:
                segment = self._next_segment(lane, now, len(line) + 1)
            if segment is None:
                return False
            segment.write(line + b"\n")
        except OSError as error:
            if is_asynchronous(error):  # such as a TimeoutError of a signal handler's
                raise
            self._close_segments()
            self._refuse("disk", now)
            what = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"can't be written ({error})"
            complain("journal", "The disk under %s %s: events are dropped and counted.", self.directory, what)
            return False
        return True

    def _next_segment(self, lane: str, now: float, size: int) -> SegmentWriter | None:
        """The pen for `size` bytes: the old one while it is good, else a new one; None while the folder is full."""
        segment = self._segments.get(lane)
        if segment is not None:
            lost = segment.lines_lost_to_unlink()
            if lost:
                self.unwritten["folder_removed"] += lost
            elif not segment.should_rotate(now, size):
                return segment
            self._segments.pop(lane).close()
        sizes = file_sizes(self.directory)
        limit = share(self._max_bytes, count_writers(sizes) if segment is not None else _MANY)
        segment = self._segments[lane] = SegmentWriter(self.directory, lane, self._writer, limit, now)

        def note_evicted(losses: Losses) -> None:
            complain("journal", "The journal in %s is full: its oldest events are dropped and counted.", self.directory)
            lines = (_loss_line({"journal_full": events}, destination) for destination, events in losses.items())
            try:
                segment.write(b"".join(line + b"\n" for line in lines))
            except OSError as error:
                if is_asynchronous(error):
                    raise
                self.unwritten["journal_full"] += max(losses.values())

        if not ensure_room(self.directory, self._max_bytes, note_evicted, sizes, max(size - limit, 0)):
            self._segments.pop(lane).close()
            self._refuse("journal_full", now)
            complain("journal", "The journal in %s is full: new events are dropped and counted.", self.directory)
            return None
        return segment

    def _refuse(self, reason: str, now: float) -> None:
        self._refusing_until = now + _PAUSE
        self._refusal = reason

    def _write_losses(self) -> None:
        losses, self.unwritten = self.unwritten, Counter()
        if losses and not self._write(_loss_line(losses), EVENTS):
            self.unwritten.update(losses)

    def _close_segments(self) -> None:
        for lane in LANES:
            if lane in self._segments:
                self._segments.pop(lane).close()


def _mark() -> str:
    """What tells this writer's files from those of another whose process has the same number, in another container."""
    return secrets.token_hex(4)


def _loss_line(losses: Mapping[str, int], destination: str = "") -> bytes:
    """What was dropped, by reason: for one destination, or for all."""
    return LOSS_PREFIX + json.dumps(losses).encode() + (f',"for":"{destination}"}}' if destination else "}").encode()
