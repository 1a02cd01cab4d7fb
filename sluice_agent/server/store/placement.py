"""Whether the SQLite file that a server has open is still the one at its path.

A file that was removed or replaced stays open without a name: what is written to it is lost with the process.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sluice_agent.server.store.driver import UnavailableError

_log = logging.getLogger("sluice_agent.server")


class Placement:
    """The place of the open file `database`."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._opened = _identity(database)
        self._is_lost = False

    def check(self) -> None:
        """Raise `UnavailableError` if another file, or none, is at the path. It is logged once."""
        is_lost = _identity(self._database) != self._opened
        if is_lost:
            reason = f"{self._database.name} was moved, removed or replaced: put it back, or restart the server"
            if not self._is_lost:
                _log.error("The database can't be used: %s (%s)", reason, self._database)
            self._is_lost = True
            raise UnavailableError(reason)
        if self._is_lost:
            _log.info("The database is back at %s", self._database)
            self._is_lost = False


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and the number of the file at `path`, None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
