"""A database of PostgreSQL: from its address to an engine over tables of this version."""

from __future__ import annotations

from typing import Any

import psycopg
import sqlalchemy
from psycopg import sql
from sqlalchemy import Engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError

from sluice_agent.errors import ConfigError
from sluice_agent.server.store.migrate import EVENTS, MigrationError, Tables, migrate

_READERS = 8  # connections of the pool
_TIMEOUT = 10  # seconds to wait for a connection
_MIGRATION_LOCK = 0x51C1CE  # any number: processes that start at the same time migrate one after the other
_LEAST_VERSION = 13
_PLANNING = (
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0"
)
"""How all connections plan. Each query is written for ranges of an index, which it reads in their order, and often not
to the end; PostgreSQL underestimates how many rows fulfil a condition that is not to choose the index, and would read
and sort all of them."""


def open_postgresql(address: str, tables: Tables = EVENTS, schema: str | None = None) -> Engine:
    """Return an engine over the database at `address`, with `tables` of this version: in `schema`, which is made if it
    is absent, or in the first of the user's search path.

    Raises `ConfigError` if it can't be used. The message does not contain the address, as that may hold a password.
    """
    try:
        url = sqlalchemy.make_url(address).set(drivername="postgresql+psycopg")
        engine = sqlalchemy.create_engine(
            url,
            pool_size=_READERS,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,  # an error is logged, and rows have what users keep secret
            connect_args={"connect_timeout": _TIMEOUT},
        )
        event.listen(engine, "connect", _plan)
        if schema is not None:
            event.listen(engine, "connect", lambda connection, _record: _enter(connection, schema), insert=True)
        with engine.begin() as connection:
            _check(connection.connection.driver_connection)
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            if schema is not None:
                connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
            migrate(connection, tables)
    except (ArgumentError, ValueError, DBAPIError, MigrationError, psycopg.Error) as error:
        reason = str(error.orig if isinstance(error, DBAPIError) else error).strip()
        raise ConfigError(f"The PostgreSQL database can't be used ({reason}): check --database") from error
    return engine


def connect_postgresql(address: str) -> psycopg.Connection[Any]:
    """Return a connection of the driver to the database at `address`. It begins no transaction by itself."""
    connection = psycopg.connect(address, autocommit=True, connect_timeout=_TIMEOUT)
    _plan(connection)
    return connection


def _enter(connection: psycopg.Connection[Any], schema: str) -> None:
    """Let a new connection find its tables in `schema` only."""
    connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
    connection.commit()


def _plan(connection: psycopg.Connection[Any], _record: object = None) -> None:
    """Set how a new connection plans its queries."""
    connection.execute(_PLANNING)
    if not connection.autocommit:
        connection.commit()


def _check(connection: Any) -> None:
    """Raise `ConfigError` if the server is too old, or the database can't store every text."""
    version, encoding = connection.info.server_version // 10_000, connection.info.parameter_status("server_encoding")
    if version < _LEAST_VERSION:
        raise ConfigError(f"PostgreSQL {version} is too old: {_LEAST_VERSION} or later is needed")
    if encoding != "UTF8":
        raise ConfigError(f"The database's encoding is {encoding}: make one with CREATE DATABASE … ENCODING 'UTF8'")
