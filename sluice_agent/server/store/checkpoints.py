"""Moves SQLite's log of commits into its file, in a thread beside the writer.

SQLite itself would do so at every some thousand pages within a commit, and all clients would wait. The log starts over
only when all of it has been moved, and the writer adds to it meanwhile: the short rest is the writer's own.
"""

from __future__ import annotations

import logging
import sqlite3
from concurrent.futures import Future, ThreadPoolExecutor

_CHANGED_ROWS = 20_000  # after which there are about 4,000 pages of 8 kB in the log
_MOVE = "PRAGMA wal_checkpoint(PASSIVE)"
_log = logging.getLogger("sluice_agent.server")


class Checkpoints:
    """The thread for the log of `writer`, with a `connection` of its own."""

    def __init__(self, writer: sqlite3.Connection, connection: sqlite3.Connection) -> None:
        self._writer = writer
        self._connection = connection
        self._executor = ThreadPoolExecutor(1, "store checkpoints")
        self._moved_until = writer.total_changes
        self._moving: Future[None] | None = None

    def after_commit(self) -> None:
        """Begin to move the log if it has become long; move the rest of it when the thread has done its part."""
        if self._moving is None:
            if self._writer.total_changes - self._moved_until > _CHANGED_ROWS:
                self._moved_until = self._writer.total_changes
                self._moving = self._executor.submit(_move, self._connection)
        elif self._moving.done():
            self._moving = None
            _move(self._writer)

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown()
        self._connection.close()


def _move(connection: sqlite3.Connection) -> None:
    """Move as much of the log as is possible without waiting for others. What fails is tried again later: all commits
    are safe in the log."""
    try:
        connection.execute(_MOVE).fetchall()
    except sqlite3.Error as error:
        _log.debug("The log of the database stays as it is: %s", error)
