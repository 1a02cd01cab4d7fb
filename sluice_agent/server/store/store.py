"""The facade of the room: the database, its one writer, and consistent reads."""

from __future__ import annotations

import gc
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import CompoundSelect, Connection, event, func, select, union_all

from sluice_agent.server.store import schema
from sluice_agent.server.store.batch import BatchResult, BatchWriter, CommittedFrames, IngestBatch
from sluice_agent.server.store.checkpoints import Checkpoints
from sluice_agent.server.store.database import Database, connect_file, open_database, reading, writing
from sluice_agent.server.store.driver import ConflictError, StoreDriver, UnavailableError
from sluice_agent.server.store.lease import Lease
from sluice_agent.server.store.migrate import epoch_of
from sluice_agent.server.store.ownership import PATIENCE, Ownership
from sluice_agent.server.store.placement import Placement
from sluice_agent.server.store.retention import EVERYTHING, FINAL_STATES, Keep, Retention
from sluice_agent.server.store.sqlite import SqliteDriver
from sluice_agent.server.store.writer import Writer
from sluice_agent.server.timestamps import to_datetime, to_moment

if TYPE_CHECKING:
    from sluice_agent.server.store.processes import Processes

_log = logging.getLogger("sluice_agent.server")

_ATTEMPTS = 3  # to write what other processes write too: from the second on they wait
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
    """The database and its one writer. `epoch` is a random text of this database: a new one has another.

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
            self._driver: StoreDriver = SqliteDriver(connection, checkpoints)
            self._reading: dict[str, Any] = {}
        else:
            from sluice_agent.server.store.processes import Processes  # noqa: PLC0415 - an extra

            self._processes = Processes(database, self.lease, self._deliver)
            self._driver = self._processes.driver
            self._reading = {"isolation_level": "REPEATABLE READ"}
        self._batch_writer = BatchWriter(self._driver)
        self._retention = Retention(self._driver, keep, now, self._forget_jobs)
        self._writer = Writer(self._write, self._maintain)

    @property
    def is_shared(self) -> bool:
        """True if other processes may use the database too. A file is served by one."""
        return self._processes is not None

    def submit(self, batch: IngestBatch) -> Future[BatchResult]:
        """Return the future result of `batch`, which is written with others soon.

        It fails with `UnavailableError` if the database can't be written now, which is raised if the store is closing.
        """
        return self._writer.submit(batch)

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
        self._writer.close()
        if self._processes is not None:
            self._processes.close()
        self._driver.close()
        self.engine.dispose()
        self._release()

    def _release(self) -> None:
        if self._ownership is not None:
            self._ownership.release()

    def _write(self, batches: Sequence[IngestBatch]) -> list[BatchResult]:
        if self._placement is not None:
            self._placement.check()
        for attempt in range(_ATTEMPTS):
            try:
                with _without_collection(), self._driver.transaction(excludes_others=attempt > 0):
                    written = self._batch_writer.write(batches, self.moment)
            except ConflictError as error:  # jobs in memory have a version that the database lacks: it is read
                _log.debug("Another process has written the same rows (%s): writing again", error)
            except BaseException:
                self._batch_writer.forget()
                raise
            else:
                if written.frames:
                    self._publish(written.frames)
                return written.results
        raise UnavailableError(f"other processes have written the same rows {_ATTEMPTS} times")

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

    def _forget_jobs(self, uuids: set[bytes]) -> None:
        self._batch_writer.memory.drop(uuids)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Return a block in which no cycles are collected: a look at all objects of a transaction, none of which is in a
    cycle, costs a sixth of its time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
