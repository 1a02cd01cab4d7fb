"""The tables of this version: made in a new database, and in an older one by migrations."""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, select, text

from sluice_agent.server.store import (  # noqa: F401 - their tables are in the metadata
    access_tables,
    action_tables,
    alert_tables,
    webhook_tables,
)
from sluice_agent.server.store.schema import meta, metadata

_MIGRATIONS = Path(__file__).with_name("migrations")
_VERSION_TABLE = (
    "CREATE TABLE alembic_version"
    " (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)


USER_VERSION = 2
"""The number in a file of SQLite by which the first server refuses it."""


class MigrationError(Exception):
    """The tables are of a newer version than this program, or of another program."""


def migrate(connection: Connection, version: str | None = None) -> None:
    """Make all tables, or migrate those that there are, in the transaction of `connection`.

    `version` is that of tables which were made before there were migrations. Raises `MigrationError`.
    """
    versions = sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("0*.py"))
    found = _version_of(connection) or version
    if not inspect(connection).get_table_names():
        _make_tables(connection, versions[-1])
    elif found not in versions:
        raise MigrationError("its tables are of a newer version of sluice-agent, or of another program")
    elif found != versions[-1]:
        upgrade(connection, version)
    if connection.scalar(select(meta.c.value).where(meta.c.name == "epoch")) is None:
        connection.execute(meta.insert().values(name="epoch", value=secrets.token_hex(4)))


def _version_of(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return str(connection.scalar(text("SELECT version_num FROM alembic_version")))


def _make_tables(connection: Connection, version: str) -> None:
    metadata.create_all(connection)
    connection.execute(text(_VERSION_TABLE))
    connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": version})
    if connection.dialect.name == "sqlite":
        connection.execute(text(f"PRAGMA user_version = {USER_VERSION}"))


def upgrade(connection: Connection, version: str | None = None) -> None:
    """Bring the tables of an older version to this one. A new server does without: it would import 11 MB."""
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    if version is not None:
        command.stamp(config, version)
    command.upgrade(config, "head")


def epoch_of(engine: Engine) -> str:
    """Return the random text that distinguishes this database from any other in the ids of streams."""
    with engine.connect() as connection:
        return str(connection.scalar(select(meta.c.value).where(meta.c.name == "epoch")))
