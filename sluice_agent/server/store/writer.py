"""A thread that writes: it takes all batches that wait, and writes them in one transaction.

A client's request waits for its future and holds no thread. What waits is limited by the few requests that the server
admits at a time. After each transaction the thread does a part of the upkeep, if that is due.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from threading import Condition, Thread
from time import monotonic
from typing import NamedTuple

from sluice_agent.log import log_failure, warn_limited
from sluice_agent.server.store.batch import BatchResult, IngestBatch
from sluice_agent.server.store.database import DATABASE_ERRORS, reason_of
from sluice_agent.server.store.driver import UnavailableError

_GROUP = 5_000  # events that one transaction takes
_RETRY = 60.0  # seconds after which upkeep that has failed is tried again
_log = logging.getLogger("sluice_agent.server")


class _Waiting(NamedTuple):
    batch: IngestBatch
    future: Future[BatchResult]


class Writer:
    """The thread that passes batches to `write`, which returns a result for each. It calls `maintain` after each write.

    `maintain` does a small part of its work, and returns the seconds after which it is due also without a write.
    """

    def __init__(
        self,
        write: Callable[[Sequence[IngestBatch]], list[BatchResult]],
        maintain: Callable[[], float],
    ) -> None:
        self._write = write
        self._maintain = maintain
        self._condition = Condition()
        self._waiting: deque[_Waiting] = deque()
        self._pending = 0
        self._is_closing = False
        self._upkeep_from = 0.0  # after a failure
        self._thread = Thread(target=self._run, name="store writer", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """The number of batches that wait or are being written. It may be read in any thread."""
        return self._pending

    def submit(self, batch: IngestBatch) -> Future[BatchResult]:
        """Put `batch` into the queue. Raises `UnavailableError` if the writer is closing."""
        waiting = _Waiting(batch, Future())
        with self._condition:
            if self._is_closing:
                raise UnavailableError("the server is shutting down")
            self._waiting.append(waiting)
            self._pending += 1
            self._condition.notify()
        return waiting.future

    def close(self) -> None:
        """Write all that waits, and end the thread."""
        with self._condition:
            self._is_closing = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        due = monotonic()
        while True:
            with self._condition:
                if not self._waiting and not self._is_closing:
                    self._condition.wait(max(0.0, due - monotonic()))
                if not self._waiting and self._is_closing:
                    return
                group = self._take()
            if group:
                self._write_group(group)
                with self._condition:
                    self._pending -= len(group)
            due = monotonic() + self._maintain_safely()

    def _take(self) -> list[_Waiting]:
        """Return the batches of one transaction: the first, and as many of the next as it has room for."""
        group: list[_Waiting] = []
        events = 0
        while self._waiting and (not group or events + len(self._waiting[0].batch.events) <= _GROUP):
            waiting = self._waiting.popleft()
            if waiting.future.set_running_or_notify_cancel():
                events += len(waiting.batch.events)
                group.append(waiting)
            else:
                self._pending -= 1
        return group

    def _write_group(self, group: Sequence[_Waiting]) -> None:
        """Write `group`. If that fails for another reason than the database, each batch is written alone: the content
        of one must not fail the others."""
        try:
            results = self._write([waiting.batch for waiting in group])
        except Exception as error:  # noqa: BLE001 - whatever it is, the client that waits gets it
            if len(group) > 1 and not isinstance(error, UnavailableError):
                for waiting in group:
                    self._write_group([waiting])
                return
            for waiting in group:
                waiting.future.set_exception(error)
        else:
            for waiting, result in zip(group, results, strict=True):
                waiting.future.set_result(result)

    def _maintain_safely(self) -> float:
        """Call `maintain`, unless it has just failed, and return the seconds after which it is due."""
        if (pause := self._upkeep_from - monotonic()) > 0:
            return pause
        try:
            return self._maintain()
        except DATABASE_ERRORS as error:
            warn_limited("upkeep", "Old rows are deleted when the database is back (%s)", reason_of(error))
        except Exception as error:  # noqa: BLE001 - the thread must go on with the next batch
            log_failure(error, "Could not delete old rows; the next attempt is in %d seconds", _RETRY)
        self._upkeep_from = monotonic() + _RETRY
        return _RETRY
