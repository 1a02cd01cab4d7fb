"""A thread that writes: it takes all batches that wait, and writes them in one transaction.

A client's request waits for its future and holds no thread. What waits is limited by the few requests that the server
admits at a time. A batch is read when the transaction comes to it, so that few events are in memory at a time. After
each transaction the thread does a part of the upkeep, if that is due.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import chain
from threading import Condition, Thread
from time import monotonic
from typing import NamedTuple

from sluice_agent.log import log_failure, warn_limited
from sluice_agent.server.store.batch import BatchResult, IngestBatch
from sluice_agent.server.store.database import DATABASE_ERRORS, reason_of
from sluice_agent.server.store.driver import UnavailableError

_GROUP = 3_000  # events after which a transaction takes no further batch
_RETRY = 60.0  # seconds after which upkeep that has failed is tried again
_log = logging.getLogger("sluice_agent.server")


class _Waiting(NamedTuple):
    read: Callable[[], IngestBatch]
    future: Future[BatchResult]


class Writer:
    """The thread that passes batches to `write`, which returns a result for each. It calls `maintain` after each write.

    `maintain` does a small part of its work, and returns the seconds after which it is due also without a write.
    """

    def __init__(
        self,
        write: Callable[[Iterable[IngestBatch]], list[BatchResult]],
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

    def submit(self, read: Callable[[], IngestBatch]) -> Future[BatchResult]:
        """Put the batch that `read` returns into the queue. It is called in the thread that writes, again if the batch
        is written again; what it raises is the result. Raises `UnavailableError` if the writer is closing."""
        waiting = _Waiting(read, Future())
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
            self._write_group()
            due = monotonic() + self._maintain_safely()

    def _write_group(self) -> None:
        """Write batches that wait, in one transaction. If that fails for another reason than the database, each is
        written alone: the content of one must not fail the others."""
        group: list[_Waiting] = []
        batches = self._batches(group)
        if (first := next(batches, None)) is None:
            return
        remaining = chain([first], batches)
        del first  # its events are in memory as long as they are needed
        try:
            results = self._write(remaining)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client that waits gets it
            is_alone = len(group) == 1 or isinstance(error, UnavailableError)
            for waiting in group:
                waiting.future.set_exception(error) if is_alone else self._write_alone(waiting)
        else:
            for waiting, result in zip(group, results, strict=True):
                waiting.future.set_result(result)
        with self._condition:
            self._pending -= len(group)

    def _batches(self, group: list[_Waiting]) -> Iterator[IngestBatch]:
        """Yield the batches of one transaction, each as it is needed, and add what waits for them to `group`."""
        events = 0
        while self._waiting and events < _GROUP:
            waiting = self._waiting.popleft()
            batch = _read(waiting) if waiting.future.set_running_or_notify_cancel() else None
            if batch is None:
                with self._condition:
                    self._pending -= 1
            else:
                events += len(batch.events)
                group.append(waiting)
                yield batch

    def _write_alone(self, waiting: _Waiting) -> None:
        if (batch := _read(waiting)) is None:
            return
        try:
            waiting.future.set_result(self._write([batch])[0])
        except Exception as error:  # noqa: BLE001 - as above
            waiting.future.set_exception(error)

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


def _read(waiting: _Waiting) -> IngestBatch | None:
    """Return the batch; None if it can't be read, which is its result."""
    try:
        return waiting.read()
    except Exception as error:  # noqa: BLE001 - most are refusals
        waiting.future.set_exception(error)
        return None
