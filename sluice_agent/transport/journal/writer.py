"""The writing side of the journal: each process appends whole lines to its own segments, with one `write` for a line or
for several that are emitted together.

No thread, no connection, and one lock, which `forget` replaces in a forked child. A written line outlives the death of
any process. Nothing here raises: an event that can't be written is counted by reason, and the counts are written as a
line as soon as writing works again.
"""

from __future__ import annotations

import errno
import secrets
import threading
from collections import Counter
from collections.abc import Sequence
from os import write
from pathlib import Path
from time import monotonic

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.log import warn_limited
from sluice_agent.transport.journal.directory import count_writers, file_sizes
from sluice_agent.transport.journal.line import EVENTS, LANES, drop_line
from sluice_agent.transport.journal.retention import EvictedEvents, ensure_room
from sluice_agent.transport.journal.segment import INTERVALS, Intervals, SegmentWriter, segment_limit

_MANY_WRITERS = 64  # assumed for a process's first segment: it can't see the writers that start at the same time


class JournalWriter:
    """The writer of one process. `append` and `drop` may be called from any thread, greenlet or signal handler."""

    def __init__(self, directory: Path, max_bytes: int, intervals: Intervals = INTERVALS) -> None:
        self.directory = directory
        self.unwritten: Counter[str] = Counter()
        """The numbers of events dropped here that are not yet written to the journal, by reason."""
        self._max_bytes = max_bytes
        self._intervals = intervals
        self._lock = threading.RLock()  # re-entrant: an OS signal handler may publish in the middle of an append
        self._segments: dict[str, SegmentWriter] = {}
        self._writer_id = _new_writer_id()
        self._refusing_until = 0.0
        self._refusal = "disk"

    def append(self, line: bytes, lane: str = EVENTS) -> None:
        """Write one event; `line` is without its newline."""
        with self._lock:
            segment = self._segments.get(lane)
            # Most lines need no more than this. While the journal refuses lines, some are counted as unwritten.
            if segment is not None and len(line) < segment.room and not self.unwritten and monotonic() < segment.due_at:
                try:
                    written = write(segment.descriptor, line + b"\n")
                    if written > len(line):
                        segment.room -= written
                        segment.lines_since_check += 1
                        return
                    segment.take_back(written)
                except OSError as error:
                    if is_asynchronous(error):
                        raise
            if self.unwritten:
                self._write_drops()
            if not self._write(line, lane):
                self.unwritten[self._refusal] += 1

    def append_all(self, lines: Sequence[bytes], lane: str = EVENTS) -> None:
        """Write several events, with one `write` where the present segment has room for them."""
        content = b"\n".join(lines)
        segment = self._segments.get(lane)
        if segment is None or len(content) >= segment.room:
            for line in lines:
                self.append(line, lane)
            return
        with self._lock:
            if self.unwritten:
                self._write_drops()
            if not self._write(content, lane, len(lines)):
                self.unwritten[self._refusal] += len(lines)

    @property
    def is_refusing(self) -> bool:
        """Whether an `append` would now be refused: the directory was just full, or could not be written."""
        return monotonic() < self._refusing_until

    def drop(self, reason: str) -> None:
        """Count a captured event as dropped."""
        with self._lock:
            self.unwritten[reason] += 1
            self._write_drops()

    def close(self) -> None:
        """Finish this process's segments. A later `append` starts new ones."""
        with self._lock:
            self._refusing_until = 0.0  # this may be the last chance to write the counts of dropped events
            self._write_drops()
            self._close_segments()

    def forget(self) -> None:
        """Start anew in a forked child: the parent keeps its segments and counts."""
        self._lock = threading.RLock()
        self.unwritten = Counter()
        self._writer_id = _new_writer_id()
        while self._segments:
            self._segments.popitem()[1].close_descriptor()

    def _write(self, content: bytes, lane: str, lines: int = 1) -> bool:
        now = monotonic()
        if now < self._refusing_until:
            return False
        try:
            segment = self._segments.get(lane)
            if segment is None or now >= segment.due_at or len(content) >= segment.room:
                segment = self._next_segment(lane, now, len(content) + 1)
            if segment is None:
                return False
            segment.write(content + b"\n", lines)
        except OSError as error:
            if is_asynchronous(error):  # such as a TimeoutError from a signal handler
                raise
            self._close_segments()
            self._refuse("disk", now)
            condition = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"can't be written ({error})"
            warn_limited("journal", "The disk under %s %s: events are dropped and counted.", self.directory, condition)
            return False
        return True

    def _next_segment(self, lane: str, now: float, size: int) -> SegmentWriter | None:
        """Return a segment for `size` bytes: the present one or a new one; None while the directory is full."""
        segment = self._segments.get(lane)
        if segment is not None:
            unlinked_lines = segment.unlinked_lines()
            if unlinked_lines:
                self.unwritten["folder_removed"] += unlinked_lines
            elif not segment.should_rotate(now, size):
                return segment
            self._segments.pop(lane).close()
        sizes = file_sizes(self.directory)
        limit = segment_limit(self._max_bytes, count_writers(sizes) if segment is not None else _MANY_WRITERS)
        segment = self._segments[lane] = SegmentWriter(
            self.directory, lane, self._writer_id, limit, now, self._intervals
        )

        def record_evicted(counts: EvictedEvents) -> None:
            warn_limited(
                "journal", "The journal in %s is full: its oldest events are dropped and counted.", self.directory
            )
            lines = (drop_line({"journal_full": events}, destination) for destination, events in counts.items())
            try:
                segment.write(b"".join(line + b"\n" for line in lines))
            except OSError as error:
                if is_asynchronous(error):
                    raise
                self.unwritten["journal_full"] += max(counts.values())

        if not ensure_room(self.directory, self._max_bytes, record_evicted, sizes, max(size - limit, 0)):
            self._segments.pop(lane).close()
            self._refuse("journal_full", now)
            warn_limited("journal", "The journal in %s is full: new events are dropped and counted.", self.directory)
            return None
        return segment

    def _refuse(self, reason: str, now: float) -> None:
        self._refusing_until = now + self._intervals.retry
        self._refusal = reason

    def _write_drops(self) -> None:
        counts, self.unwritten = self.unwritten, Counter()
        if counts and not self._write(drop_line(counts), EVENTS):
            self.unwritten.update(counts)

    def _close_segments(self) -> None:
        for lane in LANES:
            if lane in self._segments:
                self._segments.pop(lane).close()


def _new_writer_id() -> str:
    """Return an id that separates our segments from those of a process with the same pid in another container."""
    return secrets.token_hex(4)
