"""The tables of this version: made in a new database, and in an older one by migrations."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, MetaData, inspect, select, text

from sluice_agent.server.store import (  # noqa: F401 - their tables are in the metadata
    access_tables,
    action_tables,
    alert_tables,
    webhook_tables,
)
from sluice_agent.server.store.schema import meta, metadata

_VERSION_TABLE = (
    "CREATE TABLE alembic_version"
    " (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)


USER_VERSION = 2
"""The number in a file of SQLite by which the first server refuses it."""


class MigrationError(Exception):
    """The tables are of a newer version than this program, or of another program."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one database, the directory of their migrations, and `fill`, which adds the rows that they always
    have."""

    metadata: MetaData
    migrations: Path
    fill: Callable[[Connection], None]


def _fill(connection: Connection) -> None:
    """Give the database its epoch, if it has none."""
    if connection.scalar(select(meta.c.value).where(meta.c.name == "epoch")) is None:
        connection.execute(meta.insert().values(name="epoch", value=secrets.token_hex(4)))


EVENTS = Tables(metadata, Path(__file__).with_name("migrations"), _fill)
"""The tables of events, and of all that follows from them."""


def migrate(connection: Connection, tables: Tables = EVENTS, version: str | None = None) -> None:
    """Make all `tables`, or migrate those that there are, in the transaction of `connection`.

    `version` is that of tables which were made before there were migrations. Raises `MigrationError`.
    """
    versions = sorted(path.name.partition("_")[0] for path in (tables.migrations / "versions").glob("0*.py"))
    found = _version_of(connection) or version
    if not inspect(connection).get_table_names():
        _make_tables(connection, tables.metadata, versions[-1])
    elif found not in versions:
        raise MigrationError("its tables are of a newer version of sluice-agent, or of another program")
    elif found != versions[-1]:
        upgrade(connection, tables, version)
    tables.fill(connection)


def _version_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return str(connection.scalar(text("SELECT version_num FROM alembic_version")))


def _make_tables(connection: Connection, metadata: MetaData, version: str) -> None:
    metadata.create_all(connection)
    connection.execute(text(_VERSION_TABLE))
    connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": version})
    if connection.dialect.name == "sqlite":
        connection.execute(text(f"PRAGMA user_version = {USER_VERSION}"))


def upgrade(connection: Connection, tables: Tables = EVENTS, version: str | None = None) -> None:
    """Bring the tables of an older version to this one. A new server does without: it would import 11 MB."""
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(tables.migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    if version is not None:
        command.stamp(config, version)
    command.upgrade(config, "head")


def epoch_of(engine: Engine) -> str:
    """Return the random text that distinguishes this database from any other in the ids of streams."""
    with engine.connect() as connection:
        return str(connection.scalar(select(meta.c.value).where(meta.c.name == "epoch")))
