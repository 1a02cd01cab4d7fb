"""The facade of the room: the database, its one writer, and consistent reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from sqlalchemy import Connection, func, select, union_all

from sluice_agent.server.store import schema
from sluice_agent.server.store.batch import BatchResult, BatchWriter, CommittedFrames, IngestBatch
from sluice_agent.server.store.database import connect_file, epoch_of, open_database
from sluice_agent.server.store.retention import EVERYTHING, FINAL_STATES, Keep, Retention
from sluice_agent.server.store.sqlite import SqliteDriver
from sluice_agent.server.store.writer import QUEUE_LIMITS, QueueLimits, Writer
from sluice_agent.server.timestamps import to_moment

_log = logging.getLogger("sluice_agent.server")

Listener = Callable[[Sequence[CommittedFrames]], None]


class Store:
    """The database and its one writer. `epoch` is a random text of this database: a new one has another.

    Raises `ConfigError` if `database` can't be used.
    """

    def __init__(
        self,
        database: Path,
        *,
        now: Callable[[], datetime],
        keep: Keep = EVERYTHING,
        limits: QueueLimits = QUEUE_LIMITS,
    ) -> None:
        self.engine = open_database(database)
        self.epoch = epoch_of(self.engine)
        self._now = now
        self._listeners: list[Listener] = []
        self._driver = SqliteDriver(connect_file(database))
        self._batch_writer = BatchWriter(self._driver)
        self._retention = Retention(self._driver, keep, now, self._forget_jobs)
        self._writer = Writer(self._write, self._retention.work, limits)

    def submit(self, batch: IngestBatch) -> Future[BatchResult]:
        """Return the future result of `batch`, which is written with others soon.

        It fails with `UnavailableError` if the database can't be written now. Raises `QueueFullError` if too much
        waits.
        """
        return self._writer.submit(batch)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Return a connection for the queries of one request, which all see the same state of the database."""
        with self.engine.connect() as connection, connection.begin() as transaction:
            yield connection
            transaction.rollback()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Return a connection for a small transaction, which is committed at the end. It may wait for the writer."""
        with self.engine.connect().execution_options(writing=True) as connection, connection.begin():
            yield connection

    def subscribe(self, listener: Listener) -> None:
        """Have `listener` called with the frames of each commit, in the writer's thread: it must return at once."""
        self._listeners.append(listener)

    def reaches_back_to(self) -> datetime | None:
        """Return the creation of the oldest job that has ended: of older ones some may be deleted. None: there is none.

        Jobs under way are kept whatever their age, and do not count.
        """
        job, connections = schema.job.c, schema.connection
        per_state = (
            select(func.min(job.created_at)).where(job.connection == connections.c.number, job.state == state)
            for state in FINAL_STATES
        )
        query = union_all(*(select(firsts.scalar_subquery()).select_from(connections) for firsts in per_state))
        with self.reading() as reader:
            oldest = min((moment for (moment,) in reader.execute(query) if moment is not None), default=None)
        return None if oldest is None else datetime.fromtimestamp(oldest / 1e6, timezone.utc)

    def close(self) -> None:
        """Write what waits, and close all connections."""
        self._writer.close()
        self._driver.close()
        self.engine.dispose()

    def _write(self, batches: Sequence[IngestBatch]) -> list[BatchResult]:
        try:
            with self._driver.transaction():
                written = self._batch_writer.write(batches, to_moment(self._now()))
        except BaseException:
            self._batch_writer.forget()
            raise
        if written.frames:
            for listener in self._listeners:
                listener(written.frames)
        return written.results

    def _forget_jobs(self, uuids: set[bytes]) -> None:
        self._batch_writer.memory.drop(uuids)
