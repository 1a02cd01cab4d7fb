"""Election of the process that ships a directory: the first one, until a process with priority requests the lock.

The kernel releases the lock of a process that dies, and of no other. So the holder touches the lock file while it runs
(see `lock_keepalive`); when the file's time stands still, a waiting process replaces the file by one that it has
locked itself. The former holder notices this before it sends or saves anything more (`is_held`), and then waits for the
lock too.
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

from sluice_agent.log import warn_limited
from sluice_agent.transport.journal.directory import check_directory, open_private
from sluice_agent.transport.journal.flock import close_locked, identity, try_lock

_YIELD_SECONDS = 10.0  # seconds for which a process yields to one with priority: five checks of that one
STALLED_SECONDS = 10.0  # seconds without a touch by the holder: three are missing, which no busy machine explains
_MAX_CHECK_SECONDS = 4.0  # seconds that one check counts at the most, two steps: a sleeping process sees no touch
_TAKEOVER_DELAY = 2.0  # seconds from replacing a lock file to shipping: a later replacement is noticed by then
_YIELD_EVERY = 60.0  # seconds at the least between two yields: a process that requests the lock and takes none hangs


def ship_lock(directory: Path, destination: str) -> Path:
    """Return the path of the lock file of the process that ships to `destination`."""
    return directory / f"ship-{destination}.lock"


def ship_wanted(directory: Path, destination: str) -> Path:
    """Return the path of the file that a process with priority locks while it waits for the lock."""
    return directory / f"ship-{destination}.wanted"


class ShipLock:
    """The right to ship a directory to one destination, and to move its cursor. One process holds it at a time.

    A process that `has_priority` requests the lock while it waits; the others notice that, and yield. `clock` is
    monotonic.
    """

    def __init__(self, directory: Path, destination: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.has_priority = False
        self._clock = clock
        self._yielded_at = -_YIELD_EVERY
        self._begins_at = 0.0
        self._stalled_for = 0.0
        self._checked_at = 0.0
        self._last_stamp: _Stamp | None = None
        self._file = _LockFile(ship_lock(directory, destination))
        self._request = _LockFile(ship_wanted(directory, destination))

    def acquire(self) -> bool:
        """Take or keep the lock; False while another process has it, or may have it.

        Raises OSError where no process can lock.
        """
        now = self._clock()
        if now - self._yielded_at < _YIELD_SECONDS or now < self._begins_at:
            return False
        if not self._file.acquire():
            if self.has_priority:
                self._request.acquire()
            self._replace_stalled_holder(now)
            return False
        self._request.release()
        return True

    def yield_if_wanted(self) -> bool:
        """Release the lock if it `is_wanted`, long enough for the other process to take it; return whether it was."""
        now = self._clock()
        if now - self._yielded_at < _YIELD_EVERY or not self.is_wanted():
            return False
        self._yielded_at = now
        self._file.release()
        return True

    def is_wanted(self) -> bool:
        """Return whether a process with priority over this one waits for the lock."""
        return not self.has_priority and _is_locked(self._request.path)

    @property
    def generation(self) -> int:
        """The number of times that this process took the lock: between two, another may have moved the cursor."""
        return self._file.generation

    def is_held(self) -> bool:
        """Return whether this process still has the lock: another may have replaced it while this one was stalled."""
        return self._file.is_current()

    def touch(self) -> None:
        """Show that the holder is running: see `seconds_since_touch`. May be called from any thread."""
        self._file.touch()

    def release(self) -> None:
        """Release the lock. In a forked child this only closes its copies: the parent keeps the lock."""
        self._file.release()
        self._request.release()

    def _replace_stalled_holder(self, now: float) -> None:
        """Replace a holder that is stalled by this process's own checks: clock steps and sleep don't count as that."""
        stamp = _stamp_of(self._file.path)
        if stamp is None or stamp != self._last_stamp:
            self._stalled_for, self._last_stamp = 0.0, stamp
        else:
            self._stalled_for += min(now - self._checked_at, _MAX_CHECK_SECONDS)
        self._checked_at = now
        if stamp is None or self._stalled_for < STALLED_SECONDS:
            return
        holder = _holder(self._file.path)
        self._stalled_for = 0.0
        if self._file.replace(stamp):
            self._begins_at = now + _TAKEOVER_DELAY
            warn_limited(
                f"still {self._file.path.name}",
                "Process %s on %s ships the journal %s but has been stalled for %g s: this process ships in its place. "
                "Check that it runs Python threads (uWSGI: enable-threads).",
                holder.get("pid"),
                holder.get("hostname"),
                self._file.path.parent,
                STALLED_SECONDS,
            )


def current_shipper(directory: Path, destination: str) -> dict[str, Any] | None:
    """Return the `pid` and `hostname` of the process that ships this directory to `destination`; None without one."""
    path = ship_lock(directory, destination)
    if not _is_locked(path):
        return None
    return _holder(path)


def seconds_since_touch(directory: Path, destination: str) -> float:
    """Return the seconds since the shipping process touched its lock: at most `STALLED_SECONDS` if its threads run.

    Measured by the wall clock, as this is a single check: after a step of the clock it is wrong until the next touch.
    """
    try:
        return max(time.time() - ship_lock(directory, destination).lstat().st_mtime, 0.0)
    except FileNotFoundError:
        return 0.0


def _is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of the file; False on a file system without locks."""
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
    """Return the `pid` and `hostname` in a lock file; empty where it has none yet."""
    try:
        holder = json.loads(path.read_bytes() or b"{}")
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


_Stamp = tuple[int, int, int]
"""A file's device, inode and time of its last change in nanoseconds."""


def _stamp_of(path: Path) -> _Stamp | None:
    """Return the file's present stamp. It is opened for that: network file systems refresh a file's time then."""
    try:
        descriptor = open_private(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino, status.st_mtime_ns
    finally:
        os.close(descriptor)


class _LockFile:
    """A file that exists to be locked; it names the process that has locked it."""

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
        # Between opening and locking, the file may have been removed or replaced.
        if not self._lock(descriptor) or not self.is_current():
            self.release()
            return False
        self._write_holder(descriptor)
        return True

    def replace(self, stamp: _Stamp) -> bool:
        """Replace the file with `stamp` by one that this process has locked; False if its stamp has changed.

        Two processes may do so at once: the later one then has the lock, see `is_current`.
        """
        self.release()
        check_directory(self.path.parent)
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        try:
            descriptor = self._open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            self._lock(descriptor)
            self._write_holder(descriptor)
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
        """Set the file's time, by its path: the shipping thread may be closing the descriptor."""
        locked = self._identity
        with suppress(OSError):  # a disk that became read-only
            descriptor = open_private(self.path, os.O_RDONLY)
            try:
                if locked is not None and locked == identity(descriptor):
                    os.utime(descriptor)
            finally:
                os.close(descriptor)

    def release(self) -> None:
        descriptor, self._descriptor, self._identity = self._descriptor, None, None
        if descriptor is not None:
            close_locked(descriptor, self._owner, self._opened)

    def is_current(self) -> bool:
        """Return whether a file is locked, and is still the one that other processes would lock."""
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
        """Lock the opened file; return False if another process has the lock. Raises OSError where locks don't work."""
        try:
            is_ours = try_lock(descriptor)
        except OSError:
            self.release()
            raise
        if is_ours:
            self._identity = self._opened
            self.generation += 1
        return is_ours

    def _write_holder(self, descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        content = json.dumps({"pid": self._owner, "hostname": socket.gethostname()}).encode()
        os.pwrite(descriptor, content, 0)
