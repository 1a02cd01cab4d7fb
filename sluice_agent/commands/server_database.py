"""The option by which commands find the database of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sluice_agent.settings import Settings
from sluice_agent.transport.journal.directory import open_directory

_ADDRESS = "postgresql://"


class _DatabaseType(click.Path):
    """A file, or an address."""

    name = "database"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a path, or the address as it is."""
        if isinstance(value, str) and value.startswith(_ADDRESS):
            return value
        if isinstance(value, str) and "://" in value:
            scheme = value.partition("://")[0]
            self.fail(f"{scheme}:// is no database that is supported: use {_ADDRESS}… or a file", param, ctx)
        return super().convert(value, param, ctx)


database_option = click.option(
    "--database",
    envvar="SLUICE_DATABASE",
    type=_DatabaseType(dir_okay=False, path_type=Path),
    help=f"The SQLite file, or {_ADDRESS}…: several servers may use it. [default: server/sluice.db in the state"
    " directory]",
)


def server_database(database: Path | str | None) -> Path | str:
    """Return the database that the option names, or the default file."""
    return database or open_directory(Settings().state_dir, "server") / "sluice.db"
