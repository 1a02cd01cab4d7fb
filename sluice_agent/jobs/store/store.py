"""The facade of the room: connections to the database of the jobs API, for reads and for writes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Any

from sqlalchemy import Connection, event, select, text

from sluice_agent.jobs.store import schema
from sluice_agent.server.store.database import Database, open_database, reading, writing
from sluice_agent.server.store.migrate import Tables
from sluice_agent.server.store.placement import Placement
from sluice_agent.server.timestamps import to_moment

SCHEMA = "sluice_jobs"
"""PostgreSQL's schema of the tables: those of events are in another one, and both have names such as `job`."""

_TOKEN_SECRET = "token_secret"  # noqa: S105 - the name of a row
_SECRET_BYTES = 32
_NOT_FLUSHED = text("SET LOCAL synchronous_commit = off")


class JobsStore:
    """The database of jobs and runs that belongs to the `database` of events; `now` is its clock.

    `is_shared` is true if other processes may use it too. `changed` is set after each commit of this process: the
    engine, which clears it, then looks for what has come of it.
    Raises `ConfigError` if it can't be used.
    """

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        own = jobs_file(database) if isinstance(database, Path) else database
        self.engine = open_database(own, TABLES, SCHEMA)
        self.is_shared = not isinstance(own, Path)
        self.changed = Event()
        self._now = now
        self._reading: dict[str, Any] = {}
        if isinstance(own, Path):
            placement = Placement(own)
            event.listen(self.engine, "begin", lambda _: placement.check())
        else:
            self._reading["isolation_level"] = "REPEATABLE READ"
        with self.reading() as reader:
            query = select(schema.meta.c.value).where(schema.meta.c.name == _TOKEN_SECRET)
            self.token_secret = bytes.fromhex(str(reader.scalar(query)))

    @property
    def moment(self) -> int:
        """The present by the store's clock, in microseconds since 1970."""
        return to_moment(self._now())

    def reading(self) -> AbstractContextManager[Connection]:
        """Return a connection for the queries of one request, which all see the same state of the database."""
        return reading(self.engine, self._reading)

    @contextmanager
    def writing(self, *, bulk: bool = False) -> Iterator[Connection]:
        """Return a connection for one transaction, which is committed at the end, and rolled back if it raises.

        On SQLite no other transaction writes meanwhile, and one in `bulk` lets others go first; on PostgreSQL rows are
        locked by who changes or locks them.
        """
        with writing(self.engine, bulk=bulk) as writer:
            yield writer
        self.changed.set()

    def commit_early(self, writer: Connection) -> None:
        """Let the transaction of `writer` be committed before it is on disk, as SQLite does with all of them.

        If the machine of PostgreSQL fails, it may be lost: it must be one that is then made again, and does no harm.
        """
        if self.is_shared:
            writer.execute(_NOT_FLUSHED)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def jobs_file(database: Path) -> Path:
    """Return the SQLite file of jobs and runs, beside that of events: one file has one writer at a time."""
    return database.with_name(f"{database.stem}.jobs{database.suffix}")


def _fill(connection: Connection) -> None:
    """Give the database the secret of its tokens, if it has none."""
    if connection.scalar(select(schema.meta.c.value).where(schema.meta.c.name == _TOKEN_SECRET)) is None:
        value = secrets.token_hex(_SECRET_BYTES)
        connection.execute(schema.meta.insert().values(name=_TOKEN_SECRET, value=value))


TABLES = Tables(schema.metadata, Path(__file__).with_name("migrations"), _fill)
