"""Which server owns a SQLite file: it keeps in memory what it has written, so that there may be only one."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from sluice_agent.errors import ConfigError
from sluice_agent.server.store.database import make_directory, unusable

PATIENCE = 3.0
"""Seconds to wait for another server to end: one that is being restarted may not have ended yet."""

_INTERVAL = 0.05  # seconds


class Ownership:
    """The lock of the SQLite file `database`, which the kernel releases with the process. It is a file beside the one
    that symbolic links lead to.

    Raises `ConfigError` if another server still has it after `patience` seconds.
    """

    def __init__(self, database: Path, patience: float) -> None:
        try:
            make_directory(database)
            self._descriptor = os.open(f"{database.resolve()}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(database, error) from error
        deadline = time.monotonic() + patience
        while not self._is_locked():
            if time.monotonic() > deadline:
                os.close(self._descriptor)
                raise ConfigError(
                    f"Another server uses {database}: stop it, choose another file, or use --database postgresql://…"
                    " for several servers"
                )
            time.sleep(_INTERVAL)

    def release(self) -> None:
        """Let another server have the file."""
        os.close(self._descriptor)

    def _is_locked(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
