"""Election: which process ships a folder. First come, but one that takes precedence is handed the lock when it asks.

The kernel takes the lock from a process that dies, and from no other. So a holder shows that it moves, by the time of
its file (see `pulse`); where that stands still, one that waits puts a locked file of its own in the place of that one.
The former holder sees it before the next thing that it sends or saves (`is_held`), and is one of those that wait.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sluice_agent.log import complain
from sluice_agent.transport.directory import check_directory, open_private
from sluice_agent.transport.flock import close_locked, identity, try_lock

_COURTESY = 10.0  # seconds that a process stands back for one that precedes it: five looks of that one
STALLED_SECONDS = 10.0  # seconds without a sign of the holder: three are missing, which no busy machine explains
_LONGEST_LOOK = 4.0  # seconds that one look counts at the most, two turns: while this process slept it saw nothing
_SETTLING = 2.0  # seconds until one that replaced a file begins: it sees by then whether another did so after it
_COURTESY_EVERY = 60.0  # seconds at the least between two times: one that asks and takes nothing hangs


def ship_lock(directory: Path, destination: str) -> Path:
    """The file whose lock the process holds that ships to `destination`."""
    return directory / f"ship-{destination}.lock"


def ship_wanted(directory: Path, destination: str) -> Path:
    """The file whose lock a process holds that takes precedence, while it waits for the other one."""
    return directory / f"ship-{destination}.wanted"


class ShipLock:
    """The right to ship a folder to one destination, and to move its cursor. One process holds it at a time.

    One that `has_priority` asks for the lock while it waits; others see that, and yield. `clock` is monotonic.
    """

    def __init__(self, directory: Path, destination: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.has_priority = False
        self._clock = clock
        self._yielded_at = -_COURTESY_EVERY
        self._begins_at = 0.0
        self._stalled_for = 0.0
        self._looked_at = 0.0
        self._last_stamp: _Stamp | None = None
        self._file = _LockFile(ship_lock(directory, destination))
        self._request = _LockFile(ship_wanted(directory, destination))

    def acquire(self) -> bool:
        """Take the lock, or keep it; False while another has it, or may have it. Raises OSError where nobody can."""
        now = self._clock()
        if now - self._yielded_at < _COURTESY or now < self._begins_at:
            return False
        if not self._file.acquire():
            if self.has_priority:
                self._request.acquire()
            self._replace_stalled_holder(now)
            return False
        self._request.release()
        return True

    def yield_if_wanted(self) -> bool:
        """Let go where `is_wanted`, for long enough that the other one sees it; whether that was so."""
        now = self._clock()
        if now - self._yielded_at < _COURTESY_EVERY or not self.is_wanted():
            return False
        self._yielded_at = now
        self._file.release()
        return True

    def is_wanted(self) -> bool:
        """Whether a process that takes precedence over this one waits for the lock."""
        return not self.has_priority and _is_locked(self._request.path)

    @property
    def generation(self) -> int:
        """How often this process has taken the lock: another may have moved the cursor between two of them."""
        return self._file.generation

    def is_held(self) -> bool:
        """Whether this process still has the lock: another may have replaced it while this one did not move."""
        return self._file.is_current()

    def touch(self) -> None:
        """Show that the holder moves: see `seconds_since_touch`. For any thread."""
        self._file.touch()

    def release(self) -> None:
        """Let go. In a forked child this closes the copies only: its parent keeps what it holds."""
        self._file.release()
        self._request.release()

    def _replace_stalled_holder(self, now: float) -> None:
        """Measured by this process's own looks: no step of a clock and no sleep of the machine looks like it."""
        stamp = _stamp_of(self._file.path)
        if stamp is None or stamp != self._last_stamp:
            self._stalled_for, self._last_stamp = 0.0, stamp
        else:
            self._stalled_for += min(now - self._looked_at, _LONGEST_LOOK)
        self._looked_at = now
        if stamp is None or self._stalled_for < STALLED_SECONDS:
            return
        holder = _holder(self._file.path)
        self._stalled_for = 0.0
        if self._file.replace(stamp):
            self._begins_at = now + _SETTLING
            complain(
                f"still {self._file.path.name}",
                "Process %s on %s ships the journal %s and has not moved for %g s: this process ships in its place. "
                "Does it run Python threads? (uWSGI: enable-threads)",
                holder.get("pid"),
                holder.get("hostname"),
                self._file.path.parent,
                STALLED_SECONDS,
            )


def who_ships(directory: Path, destination: str) -> dict[str, Any] | None:
    """The `pid` and `hostname` of the process that ships this folder to `destination`; None where there is none."""
    path = ship_lock(directory, destination)
    if not _is_locked(path):
        return None
    return _holder(path)


def seconds_since_touch(directory: Path, destination: str) -> float:
    """Return the seconds since the process that ships moved last: `STALLED_SECONDS` at most where its threads run.

    By the wall clock, as there is one look: after a step of that it is wrong until the next sign.
    """
    try:
        return max(time.time() - ship_lock(directory, destination).lstat().st_mtime, 0.0)
    except FileNotFoundError:
        return 0.0


def _is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of the file. Where nothing can be locked nobody does."""
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, shared=True)
    except OSError:
        return False
    finally:
        close_locked(descriptor)


def _holder(path: Path) -> dict[str, Any]:
    """What a locked file says of who has locked it."""
    try:
        holder = json.loads(path.read_bytes() or b"{}")
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


_Stamp = tuple[int, int, int]
"""Which file it is (device and inode), and the time of its last change, in nanoseconds."""


def _stamp_of(path: Path) -> _Stamp | None:
    """The sign as it is now, also on a network's file system, which looks when a file is opened."""
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        return found.st_dev, found.st_ino, found.st_mtime_ns
    finally:
        os.close(descriptor)


class _LockFile:
    """A file that is there to be locked; it says who has locked it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self._descriptor: int | None = None
        self._identity: tuple[int, int] | None = None
        self._opened: tuple[int, int] | None = None
        self._owner = 0

    def acquire(self) -> bool:
        if self.is_current():
            return True
        self.release()
        check_directory(self.path.parent)
        descriptor = self._open(self.path, os.O_RDWR | os.O_CREAT)
        # Between the opening and the locking the file may have been removed, or another put in its place.
        if not self._lock(descriptor) or not self.is_current():
            self.release()
            return False
        self._note_holder(descriptor)
        return True

    def replace(self, stamp: _Stamp) -> bool:
        """Put a file that this process has locked in the place of the one with `stamp`; False where that has moved.

        Two processes may do so at once: the later one has the lock, as `is_current` says.
        """
        self.release()
        check_directory(self.path.parent)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = self._open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            self._lock(descriptor)
            self._note_holder(descriptor)
            if _stamp_of(self.path) == stamp:
                draft.replace(self.path)
                return True
        except OSError:
            self.release()
            draft.unlink(missing_ok=True)
            raise
        self.release()
        draft.unlink(missing_ok=True)
        return False

    def touch(self) -> None:
        """Not by the descriptor: the thread that ships may close it just now."""
        held = self._identity
        with suppress(OSError):  # a disk that became read-only
            descriptor = open_private(self.path, os.O_RDONLY)
            try:
                if held is not None and held == identity(descriptor):
                    os.utime(descriptor)
            finally:
                os.close(descriptor)

    def release(self) -> None:
        descriptor, self._descriptor, self._identity = self._descriptor, None, None
        if descriptor is not None:
            close_locked(descriptor, self._owner, self._opened)

    def is_current(self) -> bool:
        """Whether a file is locked, and is still the one that others would lock."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except OSError:
            return False

    def _open(self, path: Path, flags: int) -> int:
        """Kept before it is locked: a child that is forked just now must find it, or it would share the lock."""
        self._owner, self._opened = os.getpid(), None
        descriptor = self._descriptor = open_private(path, flags)
        self._opened = identity(descriptor)
        return descriptor

    def _lock(self, descriptor: int) -> bool:
        """Whether nobody else has the lock of the file that was opened. Raises OSError where nothing can be locked."""
        try:
            is_ours = try_lock(descriptor)
        except OSError:
            self.release()
            raise
        if is_ours:
            self._identity = self._opened
            self.generation += 1
        return is_ours

    def _note_holder(self, descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        content = json.dumps({"pid": self._owner, "hostname": socket.gethostname()}).encode()
        os.pwrite(descriptor, content, 0)
