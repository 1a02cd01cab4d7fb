"""The option by which commands find the database of a server."""

from __future__ import annotations

from pathlib import Path

import click

from sluice_agent.settings import Settings
from sluice_agent.transport.journal.directory import open_directory

database_option = click.option(
    "--database",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The SQLite file. [default: server/sluice.db in the state directory]",
)


def server_database(database: Path | None) -> Path:
    """Return the file that the option names, or the default one."""
    return database or open_directory(Settings().state_dir, "server") / "sluice.db"
