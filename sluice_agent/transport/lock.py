"""Election by `flock`: who holds a file's lock, and whether its holder still lives. The kernel lets go when it dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any

from sluice_agent.transport.folder import check_folder, open_private


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file if nobody else has it, or only others who share it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def ship_lock(folder: Path, destination: str) -> Path:
    """The file whose lock the process holds that ships to `destination`."""
    return folder / f"ship-{destination}.lock"


class ShipLock:
    """The right to ship a folder to one destination, and to move its cursor. One process holds it at a time."""

    def __init__(self, folder: Path, destination: str) -> None:
        self._path = ship_lock(folder, destination)
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock, or keep it; False while another has it. Raises OSError where the folder is not ours."""
        if self._descriptor is not None and self._is_current():
            return True
        self.release()
        check_folder(self._path.parent)
        # Kept before it is locked: a child that is forked just now must find it, or it would share the lock.
        descriptor = self._descriptor = open_private(self._path, os.O_RDWR | os.O_CREAT)
        if not try_lock(descriptor):
            self.release()
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "hostname": socket.gethostname()}).encode(), 0)
        return True

    def release(self) -> None:
        """Let go. In a forked child this closes the copy only: its parent keeps the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_current(self) -> bool:
        """Whether the file that is locked is still the one that others would lock (a folder can be removed)."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False


def who_ships(folder: Path, destination: str) -> dict[str, Any] | None:
    """The `pid` and `hostname` of the process that ships this folder to `destination`; None where there is none."""
    try:
        descriptor = open_private(ship_lock(folder, destination), os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if try_lock(descriptor):
            return None
        holder = json.loads(os.read(descriptor, 4096) or b"{}")
    except ValueError:
        return {}
    finally:
        os.close(descriptor)
    return holder if isinstance(holder, dict) else {}
