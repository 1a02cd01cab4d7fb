"""Election: which process ships a folder. First come, but one that takes precedence is handed the lock when it asks."""

from __future__ import annotations

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sluice_agent.transport.flock import try_lock
from sluice_agent.transport.folder import check_folder, open_private

_COURTESY = 10.0  # seconds that a process stands back for one that precedes it: five looks of that one
_SIGN_EVERY = 10.0  # seconds: a host that has nothing to tell shall not write to its disk each second
_COURTESY_EVERY = 60.0  # seconds at the least between two times: one that asks and takes nothing hangs


def ship_lock(folder: Path, destination: str) -> Path:
    """The file whose lock the process holds that ships to `destination`."""
    return folder / f"ship-{destination}.lock"


def ship_wanted(folder: Path, destination: str) -> Path:
    """The file whose lock a process holds that takes precedence, while it waits for the other one."""
    return folder / f"ship-{destination}.wanted"


class ShipLock:
    """The right to ship a folder to one destination, and to move its cursor. One process holds it at a time.

    One that `precedes` asks for the lock while it waits for it. Others see that, and stand back.
    """

    def __init__(self, folder: Path, destination: str) -> None:
        self.precedes = False
        self._stood_back_at = -_COURTESY_EVERY
        self._signed_at = -_SIGN_EVERY
        self._right = _LockFile(ship_lock(folder, destination))
        self._wish = _LockFile(ship_wanted(folder, destination))

    def acquire(self) -> bool:
        """Take the lock, or keep it; False while another has it, or may have it. Raises OSError where nobody can."""
        if time.monotonic() - self._stood_back_at < _COURTESY:
            return False
        if not self._right.acquire():
            if self.precedes:
                self._wish.acquire()
            return False
        self._wish.release()
        return True

    def stands_back(self) -> bool:
        """Let go where `is_wanted`, for long enough that the other one sees it; whether that was so."""
        now = time.monotonic()
        if now - self._stood_back_at < _COURTESY_EVERY or not self.is_wanted():
            return False
        self._stood_back_at = now
        self._right.release()
        return True

    def is_wanted(self) -> bool:
        """Whether a process that takes precedence over this one waits for the lock."""
        return not self.precedes and _is_locked(self._wish.path)

    def sign(self) -> None:
        """Show that the holder lives and moves: see `silence`."""
        now = time.monotonic()
        if now - self._signed_at >= _SIGN_EVERY:
            self._signed_at = now
            self._right.touch()

    def release(self) -> None:
        """Let go. In a forked child this closes the copies only: its parent keeps what it holds."""
        self._right.release()
        self._wish.release()


def who_ships(folder: Path, destination: str) -> dict[str, Any] | None:
    """The `pid` and `hostname` of the process that ships this folder to `destination`; None where there is none."""
    path = ship_lock(folder, destination)
    if not _is_locked(path):
        return None
    try:
        holder = json.loads(path.read_bytes() or b"{}")
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def silence(folder: Path, destination: str) -> float:
    """How many seconds ago the process that ships has last moved. Only a sleeping or stopped one is silent for long."""
    try:
        return max(time.time() - ship_lock(folder, destination).lstat().st_mtime, 0.0)
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
        os.close(descriptor)


class _LockFile:
    """A file that is there to be locked; it says who has locked it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        if self._descriptor is not None and self._is_current():
            return True
        self.release()
        check_folder(self.path.parent)
        # Kept before it is locked: a child that is forked just now must find it, or it would share the lock.
        descriptor = self._descriptor = open_private(self.path, os.O_RDWR | os.O_CREAT)
        try:
            is_ours = try_lock(descriptor)
        except OSError:
            self.release()
            raise
        if not is_ours:
            self.release()
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "hostname": socket.gethostname()}).encode(), 0)
        return True

    def touch(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):  # a disk that became read-only
                os.utime(self._descriptor)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_current(self) -> bool:
        """Whether the file that is locked is still the one that others would lock (a folder can be removed)."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self.path.stat())
        except FileNotFoundError:
            return False
