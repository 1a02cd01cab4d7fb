"""The migrations of a database to the tables of this version."""

from __future__ import annotations

import secrets
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, select

from sluice_agent.server.store.schema import meta


def migrate(connection: Connection, version: str | None = None) -> None:
    """Make all tables, or migrate those that there are, in the transaction of `connection`.

    `version` is that of tables which were made before there were migrations.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    if version is not None:
        command.stamp(config, version)
    command.upgrade(config, "head")
    if connection.scalar(select(meta.c.value).where(meta.c.name == "epoch")) is None:
        connection.execute(meta.insert().values(name="epoch", value=secrets.token_hex(4)))


def epoch_of(engine: Engine) -> str:
    """Return the random text that distinguishes this database from any other in the ids of streams."""
    with engine.connect() as connection:
        return str(connection.scalar(select(meta.c.value).where(meta.c.name == "epoch")))
