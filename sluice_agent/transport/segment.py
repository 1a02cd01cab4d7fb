"""One file of the journal while it is written: one writer, which holds its lock for as long as it lives."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from sluice_agent.async_exceptions import is_asynchronous
from sluice_agent.transport.directory import SUFFIX, check_directory, open_private
from sluice_agent.transport.flock import close_locked, identity, try_lock

_LARGEST_FILE = 4_000_000  # bytes
# What others write can't be evicted: an eighth of the limit is left for it. Up to 8 writers take a 128th each, which
# is a sixteenth, and 56 more a 1024th, which is less than another. A file that is given up is little of what there is.
_FEW = 8  # writers
_FILES_OF_FEW = 128
_FILES_OF_MANY = 1024
_LARGEST_AGE = 60.0  # seconds: so that what was delivered from a long-lived process's file is given back
_LOOK_EVERY = 1.0  # seconds between two looks at whether the file still has a name


def share(directory_limit: int, writers: int) -> int:
    """How many bytes of the folder's limit a file may take, where so many have files there, the one who asks included.

    Of those who ask at the same moment nobody sees the others: one that has no file yet asks as the last of many.
    """
    return min(_LARGEST_FILE, directory_limit // (_FILES_OF_FEW if writers <= _FEW else _FILES_OF_MANY))


class SegmentWriter:
    """An open file of one lane, of `limit` bytes; `writer` is in its name. Raises OSError where it can't be made."""

    def __init__(self, directory: Path, lane: str, writer: str, limit: int, now: float) -> None:
        self.room = limit
        """Bytes that may still be written to it. The first line may be longer."""
        self._born = now
        self._owner = os.getpid()
        self.due_at = now + _LOOK_EVERY
        """When, by the monotonic clock, it is time to ask `lines_lost_to_unlink` and `should_rotate`."""
        self._size = 0
        self._lines_since_look = 0
        name = f"{time.time_ns():020d}-{lane}-{os.getpid()}-{writer}{SUFFIX}"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_directory(directory)
        # A reader must never meet the file unlocked while we live: it would take it for finished, and remove it.
        hidden, self._path = directory / f".{name}", directory / name
        self._descriptor = open_private(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        try:
            self._opened = identity(self._descriptor)
            try_lock(self._descriptor)
            hidden.rename(self._path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, line: bytes) -> None:
        """Append `line` whole, or not at all. Raises OSError where that can't be done."""
        written = os.write(self._descriptor, line)
        if written != len(line):
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written
        self.room -= written
        self._lines_since_look += 1

    def should_rotate(self, now: float, size: int) -> bool:
        """Whether the file has no room for `size` bytes more, or is old enough to be finished."""
        return (size > self.room and self._size > 0) or now - self._born >= _LARGEST_AGE

    def lines_lost_to_unlink(self) -> int:
        """How many lines were written since the last look, if somebody has removed the file meanwhile; else 0."""
        lines, self._lines_since_look = self._lines_since_look, 0
        self.due_at = time.monotonic() + _LOOK_EVERY
        return 0 if os.fstat(self._descriptor).st_nlink else max(lines, 1)

    def close(self) -> None:
        """Finish the file. One that holds nothing is removed: a full disk would collect them."""
        if not self._size:
            try:
                self._path.unlink()
            except OSError as error:
                if is_asynchronous(error):
                    raise
        self.close_descriptor()

    def close_descriptor(self) -> None:
        """Close the file. In a forked child that is the copy: the file stays the parent's."""
        close_locked(self._descriptor, self._owner, self._opened)
