"""A server that all processes of a test run share: the first that needs it starts it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from tests.support.servers import Server


class SharedServer:
    """A server of a test run, whose processes share `directory`."""

    def __init__(self, directory: Path, start: Callable[[], Server]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._start = start
        self._address = directory / "port"
        self._server: Server | None = None
        self._users = (directory / "users").open("w")
        """Locked by every process that uses the server, until it has ended."""

    def port(self) -> int:
        """Return the port of the server, once it runs."""
        with self._starting():
            if not self._address.exists():
                self._server = self._start()
                self._address.write_text(str(self._server.port))
            fcntl.flock(self._users, fcntl.LOCK_SH)
            return int(self._address.read_text())

    def close(self) -> None:
        """Stop to use the server; the process that started it ends it when no other uses it any more."""
        server, self._server = self._server, None
        if server is not None:
            with self._starting():
                fcntl.flock(self._users, fcntl.LOCK_EX)
                self._address.unlink()
                server.close()
        self._users.close()

    def _starting(self) -> TextIO:
        """Return an open file whose lock a process holds while it starts, joins or ends the server."""
        lock = (self._directory / "starting").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return lock


def directory_of_run(base: Path) -> Path:
    """Return the directory that the processes of the test run share; `base` is pytest's directory of this process."""
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
