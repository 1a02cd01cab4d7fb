"""Statements that one thread executes while another prepares the next ones.

SQLite works without the interpreter's lock, so that both proceed at the same time; but it takes that lock back after
each statement. A statement in the background is therefore one of many rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class BackgroundStatements:
    """The statements of one transaction of `connection`, in their order. The connection is not used until `wait`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._executor = ThreadPoolExecutor(1, "store statements")
        self._last: Future[None] | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """True if statements have been submitted since the last `wait`."""
        return self._last is not None

    def submit(self, statement: str, values: Sequence[Any]) -> None:
        """Have `statement` executed. After an error none is executed until `wait` has raised it: SQLite may have rolled
        the transaction back, and the next statement would be committed alone."""
        self._last = self._executor.submit(self._execute, statement, values)

    def wait(self) -> None:
        """Wait for all statements. Raises the error of the one that failed."""
        if self._last is None:
            return
        self._last.result()
        error, self._last, self._error = self._error, None, None
        if error is not None:
            raise error

    def close(self) -> None:
        """End the thread. No statement is waiting."""
        self._executor.shutdown()

    def _execute(self, statement: str, values: Sequence[Any]) -> None:
        if self._error is None:
            try:
                self._connection.execute(statement, values)
            except BaseException as error:  # noqa: BLE001 - `wait` raises it
                self._error = error
