"""One file of the journal while it is written: one writer, which holds its lock for as long as it lives."""

from __future__ import annotations

import errno
import os
import secrets
import time
from pathlib import Path

from sluice_agent.asynchronous import is_asynchronous
from sluice_agent.transport.flock import close_locked, try_lock
from sluice_agent.transport.folder import SUFFIX, check_folder, open_private

_LARGEST_FILE = 4_000_000  # bytes
_SMALLEST_FILE = 16_000  # bytes
_FILES_TO_A_FOLDER = 64  # a file is a sixty-fourth of the limit, so that giving one up gives up little
_FILES_TO_A_WRITER = 8  # what others write can't be evicted: an eighth of the limit is left for it, to share
_MOST_WRITERS = 64  # that are reckoned with: the files that dead ones left look like many
_LARGEST_AGE = 60.0  # seconds: so that what was delivered from a long-lived process's file is given back
_LOOK_EVERY = 1.0  # seconds between two looks at whether the file still has a name


class Pen:
    """An open file of one lane. Raises OSError where it can't be made or written."""

    def __init__(self, folder: Path, lane: str, folder_limit: int, writers: int, now: float) -> None:
        share = folder_limit // max(_FILES_TO_A_FOLDER, _FILES_TO_A_WRITER * min(writers, _MOST_WRITERS))
        self._limit = max(_SMALLEST_FILE, min(_LARGEST_FILE, share))
        self._born = now
        self._owner = os.getpid()
        self.due_at = now + _LOOK_EVERY
        """When, by the monotonic clock, it is time to ask `lines_without_a_file` and `is_worn`."""
        self._size = 0
        self._lines_since_look = 0
        name = f"{time.time_ns():020d}-{lane}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_folder(folder)
        # A reader must never meet the file unlocked while we live: it would take it for finished, and remove it.
        hidden, self._path = folder / f".{name}", folder / name
        self._descriptor = open_private(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
        try:
            try_lock(self._descriptor)
            hidden.rename(self._path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def write(self, line: bytes) -> None:
        """Append `line` whole, or not at all."""
        written = os.write(self._descriptor, line)
        if written != len(line):
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written
        self._lines_since_look += 1
        if self._size >= self._limit:
            self.due_at = 0.0

    def is_worn(self, now: float) -> bool:
        """Whether the file is large or old enough to be finished."""
        return self._size >= self._limit or now - self._born >= _LARGEST_AGE

    def lines_without_a_file(self) -> int:
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
        self.let_go()

    def let_go(self) -> None:
        """Close the file. In a forked child that is the copy: the file stays the parent's."""
        close_locked(self._descriptor, self._owner)
