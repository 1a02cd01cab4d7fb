"""The migrations of a database to the tables of this version."""

from __future__ import annotations

import secrets
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, select, text

from sluice_agent.server.store.schema import meta

_MIGRATIONS = Path(__file__).with_name("migrations")


class MigrationError(Exception):
    """The tables can't be migrated: most often they are of a newer version than this program."""


def migrate(connection: Connection, version: str | None = None) -> None:
    """Make all tables, or migrate those that there are, in the transaction of `connection`.

    `version` is that of tables which were made before there were migrations. Raises `MigrationError`.
    """
    if not _is_newest(connection):
        _upgrade(connection, version)
    if connection.scalar(select(meta.c.value).where(meta.c.name == "epoch")) is None:
        connection.execute(meta.insert().values(name="epoch", value=secrets.token_hex(4)))


def _is_newest(connection: Connection) -> bool:
    newest = max(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("0*.py"))
    if not inspect(connection).has_table("alembic_version"):
        return False
    return bool(connection.scalar(text("SELECT version_num FROM alembic_version")) == newest)


def _upgrade(connection: Connection, version: str | None) -> None:
    from alembic import command  # noqa: PLC0415 - 11 MB that a server over tables of this version does not need
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        if version is not None:
            command.stamp(config, version)
        command.upgrade(config, "head")
    except CommandError as error:
        raise MigrationError(str(error)) from error


def epoch_of(engine: Engine) -> str:
    """Return the random text that distinguishes this database from any other in the ids of streams."""
    with engine.connect() as connection:
        return str(connection.scalar(select(meta.c.value).where(meta.c.name == "epoch")))
