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

from sluice_agent.asynchronous import is_asynchronous
from sluice_agent.log import complain
from sluice_agent.transport.eviction import Losses, room_for_more
from sluice_agent.transport.folder import EVENTS, LANES, count_writers, file_sizes
from sluice_agent.transport.pen import Pen, share
from sluice_agent.transport.reader import LOSS_PREFIX

_MANY = 64  # writers: as one asks who can't see whom it begins with
_PAUSE = 1.0  # seconds until a folder that is full, or can't be written, is tried again


class Journal:
    """Where this process writes. `append` and `drop` may be called from any thread, greenlet or signal handler."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.unwritten: Counter[str] = Counter()
        """What was dropped here and could not be written down yet, by reason."""
        self._max_bytes = max_bytes
        self._lock = threading.RLock()  # re-entrant: an OS signal handler may publish in the middle of an append
        self._pens: dict[str, Pen] = {}
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
            self._put_away()

    def forget(self) -> None:
        """In a forked child: the parent's files and its counts stay the parent's."""
        self._lock = threading.RLock()
        self.unwritten = Counter()
        self._writer = _mark()
        while self._pens:
            self._pens.popitem()[1].let_go()

    def _write(self, line: bytes, lane: str) -> bool:
        now = time.monotonic()
        if now < self._refusing_until:
            return False
        try:
            pen = self._pens.get(lane)
            if pen is None or now >= pen.due_at or len(line) >= pen.room:
                pen = self._next_pen(lane, now, len(line) + 1)
            if pen is None:
                return False
            pen.write(line + b"\n")
        except OSError as error:
            if is_asynchronous(error):  # such as a TimeoutError of a signal handler's
                raise
            self._put_away()
            self._refuse("disk", now)
            what = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"can't be written ({error})"
            complain("journal", "The disk under %s %s: events are dropped and counted.", self.folder, what)
            return False
        return True

    def _next_pen(self, lane: str, now: float, size: int) -> Pen | None:
        """The pen for `size` bytes: the old one while it is good, else a new one; None while the folder is full."""
        pen = self._pens.get(lane)
        if pen is not None:
            lost = pen.lines_without_a_file()
            if lost:
                self.unwritten["folder_removed"] += lost
            elif not pen.is_worn(now, size):
                return pen
            self._pens.pop(lane).close()
        sizes = file_sizes(self.folder)
        limit = share(self._max_bytes, count_writers(sizes) if pen is not None else _MANY)
        pen = self._pens[lane] = Pen(self.folder, lane, self._writer, limit, now)

        def note_evicted(losses: Losses) -> None:
            complain("journal", "The journal in %s is full: its oldest events are dropped and counted.", self.folder)
            lines = (_loss_line({"journal_full": events}, destination) for destination, events in losses.items())
            try:
                pen.write(b"".join(line + b"\n" for line in lines))
            except OSError as error:
                if is_asynchronous(error):
                    raise
                self.unwritten["journal_full"] += max(losses.values())

        if not room_for_more(self.folder, self._max_bytes, note_evicted, sizes, max(size - limit, 0)):
            self._pens.pop(lane).close()
            self._refuse("journal_full", now)
            complain("journal", "The journal in %s is full: new events are dropped and counted.", self.folder)
            return None
        return pen

    def _refuse(self, reason: str, now: float) -> None:
        self._refusing_until = now + _PAUSE
        self._refusal = reason

    def _write_losses(self) -> None:
        losses, self.unwritten = self.unwritten, Counter()
        if losses and not self._write(_loss_line(losses), EVENTS):
            self.unwritten.update(losses)

    def _put_away(self) -> None:
        for lane in LANES:
            if lane in self._pens:
                self._pens.pop(lane).close()


def _mark() -> str:
    """What tells this writer's files from those of another whose process has the same number, in another container."""
    return secrets.token_hex(4)


def _loss_line(losses: Mapping[str, int], destination: str = "") -> bytes:
    """What was dropped, by reason: for one destination, or for all."""
    return LOSS_PREFIX + json.dumps(losses).encode() + (f',"for":"{destination}"}}' if destination else "}").encode()
