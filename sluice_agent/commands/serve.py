"""``sluice-agent serve``: a local Sluice."""

from __future__ import annotations

from pathlib import Path

import click

from sluice_agent.commands.common import UserError
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import SLUICE
from sluice_agent.transport.journal.directory import open_directory


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8787, show_default=True, type=click.IntRange(0, 65_535), help="0: any free port.")
@click.option(
    "--database",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The SQLite file. [default: server/sluice.db in the state directory]",
)
@click.option("--api-key", envvar=SLUICE.key_variable, help="The only key that is accepted. [default: any sk_… key]")
def serve(host: str, port: int, database: Path | None, api_key: str | None) -> None:
    """Run a local Sluice: the ingest endpoint and the jobs API, with no account.

    Set SLUICE_API_URL to the address that it prints, and SLUICE_API_KEY to any key that begins with sk_.
    """
    try:
        from sluice_agent import server  # noqa: PLC0415 - an extra: the other commands work without it
    except ImportError as error:
        raise UserError(f"serve needs its extra: pip install 'sluice-agent[server]' ({error})") from None
    if database is None:
        database = open_directory(Settings().state_dir, "server") / "sluice.db"
    server.serve(host=host, port=port, database=database, api_key=api_key)
