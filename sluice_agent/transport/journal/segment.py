"""A segment: one file of the journal while it is written. Its only writer holds its lock for as long as it lives."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.transport.journal.directory import SegmentName, check_directory, open_private
from sluice_agent.transport.journal.flock import close_locked, identity, try_lock

_MAX_SEGMENT_BYTES = 4_000_000  # bytes
# Segments of live writers can't be evicted: an eighth of the limit is left for them. Up to 8 writers take a 128th each,
# together a sixteenth, and 56 more a 1024th each, together less than another sixteenth. So an evicted segment is only a
# small part of the journal.
_FEW_WRITERS = 8  # writers
_SHARES_OF_FEW = 128
_SHARES_OF_MANY = 1024


@dataclass(frozen=True, slots=True)
class Intervals:
    """The intervals of a writer, in seconds."""

    max_age: float = 60.0
    """Of a segment: so that the space of delivered events is freed while their process lives."""
    check: float = 1.0
    """Between two checks whether a segment still has a name."""
    retry: float = 1.0
    """Until a directory that is full, or can't be written, is tried again."""


INTERVALS = Intervals()


def segment_limit(directory_limit: int, writers: int) -> int:
    """Return the maximal size of a segment in bytes, where so many writers, the caller included, have segments.

    Writers that call this at the same moment can't see the others: one without a segment passes the number for many.
    """
    return min(_MAX_SEGMENT_BYTES, directory_limit // (_SHARES_OF_FEW if writers <= _FEW_WRITERS else _SHARES_OF_MANY))


class SegmentWriter:
    """An open segment of one lane, of `limit` bytes; `writer_id` is in its name. Raises OSError on failure."""

    def __init__(
        self, directory: Path, lane: str, writer_id: str, limit: int, now: float, intervals: Intervals
    ) -> None:
        self.room = self._limit = limit
        """The number of bytes that may still be written. The first line may be longer."""
        self._intervals = intervals
        self._created_at = now
        self._owner = os.getpid()
        self.due_at = now + intervals.check
        """The monotonic time from which `unlinked_lines` and `should_rotate` should be called."""
        self.lines_since_check = 0
        name = str(SegmentName(time.time_ns(), lane, os.getpid(), writer_id))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_directory(directory)
        # A reader must never meet the file unlocked while we live: it would take it for finished, and remove it.
        hidden, self._path = directory / f".{name}", directory / name
        self.descriptor = open_private(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        try:
            self._opened = identity(self.descriptor)
            try_lock(self.descriptor)
            hidden.rename(self._path)
        except BaseException:
            os.close(self.descriptor)
            raise

    def write(self, content: bytes, lines: int = 1) -> None:
        """Append `content`, so many lines, whole or not at all. Raises OSError on failure."""
        written = os.write(self.descriptor, content)
        if written != len(content):
            self.take_back(written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= written
        self.lines_since_check += lines

    def take_back(self, written: int) -> None:
        """Remove the last bytes, so many: a `write` that was short. Raises OSError on failure."""
        os.ftruncate(self.descriptor, os.fstat(self.descriptor).st_size - written)

    def should_rotate(self, now: float, size: int) -> bool:
        """Return whether the file has no room for `size` bytes more, or is old enough to be finished."""
        return size > self.room < self._limit or now - self._created_at >= self._intervals.max_age

    def unlinked_lines(self) -> int:
        """Return the number of lines written since the last check, if the file was removed meanwhile; else 0."""
        lines, self.lines_since_check = self.lines_since_check, 0
        self.due_at = time.monotonic() + self._intervals.check
        return 0 if os.fstat(self.descriptor).st_nlink else max(lines, 1)

    def close(self) -> None:
        """Finish the file. An empty one is removed: a full disk would collect them."""
        if self.room == self._limit:
            try:
                self._path.unlink()
            except OSError as error:
                if is_asynchronous(error):
                    raise
        self.close_descriptor()

    def close_descriptor(self) -> None:
        """Close the file. In a forked child this closes the copy: the parent goes on writing."""
        close_locked(self.descriptor, self._owner, self._opened)
