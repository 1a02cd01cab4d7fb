"""The transactions of one writer, over a connection to the database of its own, with what it remembers of them."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from threading import Lock

from sluice_agent.server.store.batch import BatchResult, BatchWriter, CommittedFrames, IngestBatch, Written
from sluice_agent.server.store.driver import ConflictError, Driver, UnavailableError

_ATTEMPTS = 3  # to write what other writers write too: from the second on they wait
_LOOKED_AT = 4  # events of a batch, to see whether its jobs are remembered
_log = logging.getLogger("sluice_agent.server")


class Transactions:
    """Writes batches through `driver`, `writers` of which remember jobs in the same process.

    `moment` returns the present, `check` raises `UnavailableError` if the database is not the one that was opened, and
    `publish` gets the frames of each commit.
    """

    def __init__(
        self,
        driver: Driver,
        writers: int,
        moment: Callable[[], int],
        check: Callable[[], None],
        publish: Callable[[Sequence[CommittedFrames]], None],
    ) -> None:
        self._driver = driver
        self._batch_writer = BatchWriter(driver, writers)
        self._moment = moment
        self._check = check
        self._publish = publish

    def write(self, batches: Iterable[IngestBatch]) -> list[BatchResult]:
        """Write `batches` in one transaction, and return the result of each.

        They are written together only where another process may have the transaction repeated: else each is let go of
        before the next is taken.
        """
        self._check()
        owns_database = self._driver.owns_database
        groups: Iterable[list[IngestBatch]] = ([batch] for batch in batches) if owns_database else [list(batches)]
        for attempt in range(_ATTEMPTS):
            written = Written([], [])
            try:
                with _without_collection(), self._driver.transaction(excludes_others=attempt > 0):
                    for group in groups:
                        part = self._batch_writer.write(group, self._moment())
                        written.results.extend(part.results)
                        written.frames.extend(part.frames)
            except ConflictError as error:  # jobs in memory have a version that the database lacks: it is read
                _log.debug("Another writer has written the same rows (%s): writing again", error)
            except BaseException:
                self._batch_writer.forget()
                raise
            else:
                if written.frames:
                    self._publish(written.frames)
                return written.results
        raise UnavailableError(f"other writers have written the same rows {_ATTEMPTS} times")

    def remembers(self, batch: IngestBatch) -> bool:
        """Return whether a job of `batch` is in memory. It may be called in any thread."""
        memory = self._batch_writer.memory
        jobs = (event for event in islice(batch.events, _LOOKED_AT) if "job" in event)
        return any(memory.has(event["connectionId"], event["job"]["externalId"]) for event in jobs)

    def forget_jobs(self, uuids: set[bytes]) -> None:
        """Discard jobs that were deleted from the database."""
        self._batch_writer.memory.drop(uuids)


class _Collection:
    """The collection of cycles, which is off as long as any thread has switched it off."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._blocks = 0

    def block(self) -> None:
        with self._lock:
            self._blocks += 1
            gc.disable()

    def release(self) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                gc.enable()


_COLLECTION = _Collection()


@contextmanager
def _without_collection() -> Iterator[None]:
    """Return a block in which no cycles are collected: a look at all objects of a transaction, none of which is in a
    cycle, costs a sixth of its time."""
    _COLLECTION.block()
    try:
        yield
    finally:
        _COLLECTION.release()
