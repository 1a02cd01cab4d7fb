"""The facade of the room: the database, its writers, and consistent reads.

A file has one writer. PostgreSQL has two, as a writer mostly waits for it: they are to each other what those of two
processes are. A batch is for the writer that remembers its jobs.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import CompoundSelect, Connection, event, func, select, union_all

from sluice_agent.server.store import schema
from sluice_agent.server.store.batch import BatchResult, CommittedFrames, IngestBatch
from sluice_agent.server.store.checkpoints import Checkpoints
from sluice_agent.server.store.database import Database, connect_file, open_database, reading, turn_of, writing
from sluice_agent.server.store.driver import StoreDriver
from sluice_agent.server.store.lease import Lease
from sluice_agent.server.store.migrate import epoch_of
from sluice_agent.server.store.ownership import PATIENCE, Ownership
from sluice_agent.server.store.placement import Placement
from sluice_agent.server.store.retention import EVERYTHING, FINAL_STATES, Keep, Retention
from sluice_agent.server.store.sqlite import SqliteDriver
from sluice_agent.server.store.transactions import Transactions
from sluice_agent.server.store.writer import Writer
from sluice_agent.server.timestamps import to_datetime, to_moment

if TYPE_CHECKING:
    from sluice_agent.server.store.processes import Processes

_NO_UPKEEP = 3_600.0  # seconds until a writer that does none is asked again
_LEASE_POLL = 5.0  # seconds until a process that does no upkeep looks again whether it should

Listener = Callable[[Sequence[CommittedFrames]], None]


def _oldest_ended() -> CompoundSelect[Any]:
    """Return the query for the creation of the oldest job of each connection and final state."""
    job, connections = schema.job.c, schema.connection
    per_state = (
        select(func.min(job.created_at)).where(job.connection == connections.c.number, job.state == state)
        for state in FINAL_STATES
    )
    return union_all(*(select(firsts.scalar_subquery()).select_from(connections) for firsts in per_state))


_OLDEST_ENDED = _oldest_ended()


class Store:
    """The database and its writers. `epoch` is a random text of this database: a new one has another.

    Raises `ConfigError` if `database` can't be used, or if it is a file that another server uses.
    """

    def __init__(
        self,
        database: Database,
        *,
        now: Callable[[], datetime],
        keep: Keep = EVERYTHING,
        patience: float = PATIENCE,
    ) -> None:
        self._ownership = Ownership(database, patience) if isinstance(database, Path) else None
        try:
            self.engine = open_database(database)
        except BaseException:
            self._release()
            raise
        self.epoch = epoch_of(self.engine)
        self._now = now
        self._holder = secrets.token_hex(8)
        self._listeners: list[Listener] = []
        self._processes: Processes | None = None
        self._placement: Placement | None = None
        if isinstance(database, Path):
            placement = self._placement = Placement(database)
            event.listen(self.engine, "begin", lambda _: placement.check())
            connection = connect_file(database)
            checkpoints = Checkpoints(connection, connect_file(database))
            self._drivers: list[StoreDriver] = [
                SqliteDriver(connection, checkpoints, partial(turn_of, self.engine, bulk=True))
            ]
            self._reading: dict[str, Any] = {}
        else:
            from sluice_agent.server.store.processes import Processes  # noqa: PLC0415 - an extra

            self._processes = Processes(database, self.lease, self._deliver)
            self._drivers = [*self._processes.drivers]
            self._reading = {"isolation_level": "REPEATABLE READ"}
        self._transactions = [
            Transactions(driver, len(self._drivers), lambda: self.moment, self._check, self._publish)
            for driver in self._drivers
        ]
        first = self._transactions[0]
        self._retention = Retention(self._drivers[0], keep, now, first.forget_jobs)
        self._writers = [
            Writer(transactions.write, self._maintain if transactions is first else _nothing)
            for transactions in self._transactions
        ]

    @property
    def is_shared(self) -> bool:
        """True if other processes may use the database too. A file is served by one."""
        return self._processes is not None

    def submit(self, batch: IngestBatch) -> Future[BatchResult]:
        """Return the future result of `batch`, which is written with others soon.

        It fails with `UnavailableError` if the database can't be written now, which is raised if the store is closing.
        """
        return self._writer_for(batch).submit(lambda: batch)

    def submit_unread(self, read: Callable[[], IngestBatch]) -> Future[BatchResult]:
        """Return the future result of the batch that `read` returns, as `submit` does.

        With one writer `read` is called in its thread, just before the batch is written, and may be called again; what
        it raises is raised by the future. With several it is called now, as the writer is chosen by the batch's jobs.
        """
        return self._writers[0].submit(read) if len(self._writers) == 1 else self.submit(read())

    def _writer_for(self, batch: IngestBatch) -> Writer:
        """Return the writer that remembers jobs of `batch`, else the one that has the least to do."""
        if len(self._writers) == 1:
            return self._writers[0]
        for writer, transactions in zip(self._writers, self._transactions, strict=True):
            if transactions.remembers(batch):
                return writer
        return min(self._writers, key=lambda writer: writer.pending)

    @property
    def moment(self) -> int:
        """The present by the store's clock, in microseconds since 1970."""
        return to_moment(self._now())

    def reading(self) -> AbstractContextManager[Connection]:
        """Return a connection for the queries of one request, which all see the same state of the database."""
        return reading(self.engine, self._reading)

    def writing(self) -> AbstractContextManager[Connection]:
        """Return a connection for a small transaction, which is committed at the end. It may wait for the writer."""
        return writing(self.engine)

    def lease(self, name: str, seconds: float) -> Lease:
        """Return the lease called `name` for this store. It is not held yet."""
        return Lease(self.writing, name, self._holder, seconds, lambda: self.moment)

    def subscribe(self, listener: Listener) -> None:
        """Have `listener` called with the frames of each commit, of any process, in the order of their positions.

        It is called in a thread of the store, and must return at once.
        """
        self._listeners.append(listener)

    def hold_jobs(self, held: Callable[[Mapping[str, int]], set[bytes]]) -> None:
        """Have no job deleted whose id is in what `held` returns for the connections' ids, with their numbers.

        It is called in the store's own thread, each time before jobs are deleted.
        """
        self._retention.hold(lambda: held(self._connections()))

    def _connections(self) -> dict[str, int]:
        with self.reading() as reader:
            rows = reader.execute(select(schema.connection.c.id, schema.connection.c.number))
            return {row.id: row.number for row in rows}

    def reaches_back_to(self) -> datetime | None:
        """Return the creation of the oldest job that has ended: of older ones some may be deleted. None: there is none.

        Jobs under way are kept whatever their age, and do not count.
        """
        with self.reading() as reader:
            oldest = min((moment for (moment,) in reader.execute(_OLDEST_ENDED) if moment is not None), default=None)
        return None if oldest is None else to_datetime(oldest)

    def close(self) -> None:
        """Write what waits, and close all connections."""
        for writer in self._writers:
            writer.close()
        if self._processes is not None:
            self._processes.close()
        for driver in self._drivers:
            driver.close()
        self.engine.dispose()
        self._release()

    def _release(self) -> None:
        if self._ownership is not None:
            self._ownership.release()

    def _check(self) -> None:
        if self._placement is not None:
            self._placement.check()

    def _publish(self, frames: Sequence[CommittedFrames]) -> None:
        if self._processes is None:
            self._deliver(frames)
        else:
            self._processes.keep(frames)

    def _deliver(self, frames: Sequence[CommittedFrames]) -> None:
        for listener in self._listeners:
            listener(frames)

    def _maintain(self) -> float:
        """Do a slice of the upkeep, if no other process does it, and return the seconds after which it is due again."""
        if self._processes is None or self._processes.may_maintain():
            return self._retention.work()
        return _LEASE_POLL


def _nothing() -> float:
    """Do no upkeep: another writer does it."""
    return _NO_UPKEEP
