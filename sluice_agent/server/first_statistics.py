"""Statistics of the usual windows, read once as the server starts: else the first to ask would wait for all counts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from threading import Event, Thread

from sluice_agent.log import log_failure
from sluice_agent.server.queries.queues import list_queues
from sluice_agent.server.queries.selection import known_connections
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.queries.tasks import list_tasks
from sluice_agent.server.queries.window import Span, window_of
from sluice_agent.server.store import DATABASE_ERRORS, Store, reason_of
from sluice_agent.server.timestamps import to_moment

_log = logging.getLogger("sluice_agent.server")

_TIME_RANGES = ("24h", "7d")
_CLOSE_SECONDS = 5.0


class FirstStatistics:
    """Reads the queues and tasks of `store` into `past_sums`, in a thread of its own."""

    def __init__(self, store: Store, past_sums: PastSums, now: Callable[[], datetime]) -> None:
        self._store = store
        self._past_sums = past_sums
        self._now = now
        self._stopped = Event()
        self._thread = Thread(target=self.read, name="first statistics", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Wait until the thread has ended, which reads no further window."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS)

    def read(self) -> None:
        """Read all of them, unless it is closed meanwhile."""
        try:
            for time_range in _TIME_RANGES:
                for read in (self._read_tasks, self._read_queues):
                    if self._stopped.is_set():
                        return
                    read(time_range)
        except DATABASE_ERRORS as error:
            _log.debug("The first request reads all statistics, as the database is away (%s)", reason_of(error))
        except Exception as error:  # noqa: BLE001 - requests read the same, and fail alone
            log_failure(error, "Statistics could not be read at the start")

    def _read_tasks(self, time_range: str) -> None:
        window = window_of(Span(time_range), to_moment(self._now()))
        with self._store.reading() as reader:
            list_tasks(reader, known_connections(reader, None).values(), window, self._past_sums)

    def _read_queues(self, time_range: str) -> None:
        window = window_of(Span(time_range), to_moment(self._now()))
        with self._store.reading() as reader:
            list_queues(reader, known_connections(reader, None), window, None, self._past_sums)
