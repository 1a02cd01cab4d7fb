"""The database itself: from its address to an engine over tables of this version."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from sluice_agent.errors import ConfigError
from sluice_agent.server.store.driver import UnavailableError
from sluice_agent.server.store.migrate import EVENTS, USER_VERSION, MigrationError, Tables, migrate
from sluice_agent.server.store.turns import Turns

Database: TypeAlias = Path | str
"""A SQLite file, or the address of a database of PostgreSQL."""

LOCK_TIMEOUT = 10.0
"""Seconds to wait for another program that writes to the same file."""

AWAY = ("database or disk is full", "database is locked", "disk I/O error", "unable to open database file")
"""The beginnings of SQLite's messages for a file that can't be used now."""

DATABASE_ERRORS = (SQLAlchemyError, UnavailableError)
"""What any use of the database may raise while it is away. A thread goes on after it, and tries again."""

_FIRST_VERSION = 1  # the user_version of files that were made before there were migrations
_PAGE_SIZE = 8_192  # bytes: a commit of a batch costs a fifth less than with SQLite's 4,096
_TURNS = "turns"  # the execution option of an engine over a file
_READERS = 8  # connections of the pool


def open_database(database: Database, tables: Tables = EVENTS, schema: str | None = None) -> Engine:
    """Return an engine over `database`, with `tables` of this version: those of an older one are migrated.

    A file is created if it is absent, readable by its owner only. In PostgreSQL the tables are in `schema`, which is
    made if it is absent, or in the user's own. Raises `ConfigError` if the database can't be used.
    """
    if isinstance(database, Path):
        return _open_file(database, tables)
    try:
        from sluice_agent.server.store.postgresql_database import open_postgresql  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(f"PostgreSQL needs its extra: pip install 'sluice-agent[postgresql]' ({error})") from None
    return open_postgresql(database, tables, schema)


@contextmanager
def reading(engine: Engine, options: Mapping[str, Any]) -> Iterator[Connection]:
    """Return a connection with these options for the queries of one request, which all see the same state."""
    with engine.connect().execution_options(**options) as connection, connection.begin():
        yield connection  # and a commit, as psycopg would forget its prepared statements after a rollback


@contextmanager
def writing(engine: Engine, *, bulk: bool = False) -> Iterator[Connection]:
    """Return a connection for a transaction, which is committed at the end. It may wait for others that write; `bulk`:
    it lets those that are not go first."""
    with turn_of(engine, bulk=bulk), engine.connect().execution_options(writing=True) as connection, connection.begin():
        yield connection


def turn_of(engine: Engine, *, bulk: bool) -> AbstractContextManager[None]:
    """Return a block in which no other thread writes to the file of `engine`; in PostgreSQL many may write."""
    turns: Turns | None = engine.get_execution_options().get(_TURNS)
    return nullcontext() if turns is None else turns.take(bulk=bulk)


def reason_of(error: Exception) -> str:
    """Return the first line of an error of the database, without the statement and its values."""
    return str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]


def is_away(error: DBAPIError) -> bool:
    """Return whether `error` means that the database can't be used now, and not that a statement is wrong."""
    if isinstance(error.orig, sqlite3.Error):
        return str(error.orig).startswith(AWAY)
    return isinstance(error, (OperationalError, InterfaceError))


def means_away(error: Exception) -> bool:
    """Return whether the same may succeed once the database can be used again."""
    return isinstance(error, UnavailableError) or (isinstance(error, DBAPIError) and is_away(error))


def connect_file(database: Path) -> sqlite3.Connection:
    """Return a connection of the driver to the SQLite file `database`, without implicit transactions."""
    connection = sqlite3.connect(
        database, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def make_directory(database: Path) -> None:
    """Make the directory of the SQLite file `database`, if it is absent."""
    database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def unusable(database: Path, reason: object) -> ConfigError:
    """Return the error of a file that can't be used."""
    return ConfigError(f"{database} can't be used as a database ({reason}): choose another file")


def _open_file(database: Path, tables: Tables) -> Engine:
    try:
        make_directory(database)
        database.touch(mode=0o600)
        engine = _engine(database)
        with engine.connect() as connection:
            is_first_version = _prepare_file(connection.connection.driver_connection, database)
        with engine.connect().execution_options(writing=True) as connection, connection.begin():
            migrate(connection, tables, "0001" if is_first_version else None)
        if is_first_version:
            _reclaim(engine)
    except (OSError, DBAPIError, sqlite3.Error, MigrationError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise unusable(database, reason) from error
    return engine


def _engine(database: Path) -> Engine:
    engine = sqlalchemy.create_engine(
        "sqlite://",
        creator=lambda: connect_file(database),
        poolclass=sqlalchemy.QueuePool,
        pool_size=_READERS,
        max_overflow=0,
        hide_parameters=True,  # an error is logged, and rows have what users keep secret
        execution_options={_TURNS: Turns()},
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        is_writing = connection.get_execution_options().get("writing")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")

    return engine


def _prepare_file(connection: Any, database: Path) -> bool:
    """Set what the file itself keeps, and return whether it is of the first version."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if version > USER_VERSION:
        raise ConfigError(f"{database} was made by another version of sluice-agent: choose another file")
    if tables and version != _FIRST_VERSION and "alembic_version" not in tables:
        raise ConfigError(f"{database} was made by another program: choose another file")
    if not tables:  # both are possible only before the first table
        connection.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    return version == _FIRST_VERSION and "alembic_version" not in tables


def _reclaim(engine: Engine) -> None:
    """Give the space of the first version's tables back, and let later deletions do so bit by bit."""
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA auto_vacuum = INCREMENTAL")
        driver.execute("VACUUM")
