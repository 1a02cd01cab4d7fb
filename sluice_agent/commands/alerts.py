"""``sluice-agent alerts``: the file of rules checked against a server's database, and secrets of webhooks."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sluice_agent.commands.common import UserError
from sluice_agent.commands.printable import printable
from sluice_agent.commands.server_database import database_option, server_database

if TYPE_CHECKING:
    from sluice_agent.server.alerts.evaluation import Evaluated
    from sluice_agent.server.alerts.file import AlertFile

_SECRET_BYTES = 32


@click.group()
def alerts() -> None:
    """Check rules of alerts, and make secrets for their webhooks."""


@alerts.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@database_option
def check(file: Path, database: Path | str | None) -> None:
    """Check FILE, and show for each rule what would fire now. Nothing is sent, and no state changes.

    The server may be running.
    """
    try:
        from sluice_agent.server.alerts.file import read_alerts  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UserError(f"alerts needs the extra: pip install 'sluice-agent[server]' ({error})") from None
    read = read_alerts(file)
    count = len(read.rules)
    click.echo(f"{file}: {count} rule{'s' if count > 1 else ''}, no error.")
    for note in _notes(read):
        click.echo(printable(f"note: {note}"), err=True)
    path = server_database(database)
    if isinstance(path, Path) and not path.exists():
        click.echo(f"note: {path} does not exist, so nothing is measured: name the server's database", err=True)
        return
    for evaluated in _measured(read, path):
        rule, _, reading = evaluated
        click.echo(printable(f"{_verdict(evaluated):9}  {rule.name}: {reading.text} (fires if {rule.text})"))


@alerts.command()
def secret() -> None:
    """Print a new secret for a webhook: for the variable that secret_env names, and for the receiver."""
    click.echo(f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}")


def _notes(file: AlertFile) -> Iterator[str]:
    from sluice_agent.server.alerts.assembly import secret_problem  # noqa: PLC0415 - the extra `server`
    from sluice_agent.server.alerts.file import unused  # noqa: PLC0415

    for webhook in file.webhooks:
        problem = secret_problem(webhook.secret_env, os.environ)
        if problem is not None:
            yield f"webhook {webhook.name!r}: {problem}; the server needs it"
    for name in unused(file):
        yield f"webhook {name!r} is used by no rule"


def _measured(file: AlertFile, database: Path | str) -> Sequence[Evaluated]:
    from sluice_agent.server.alerts.evaluation import read_rules  # noqa: PLC0415 - the extra `server`
    from sluice_agent.server.queries.sums import PastSums  # noqa: PLC0415
    from sluice_agent.server.store.database import open_database  # noqa: PLC0415
    from sluice_agent.server.timestamps import to_moment  # noqa: PLC0415

    engine = open_database(database)
    try:
        with engine.connect() as reader:
            return read_rules(reader, file.rules, to_moment(datetime.now(timezone.utc)), PastSums())
    finally:
        engine.dispose()


def _verdict(evaluated: Evaluated) -> str:
    if evaluated.reading.is_above is None:
        return "not known"
    if not evaluated.reading.is_above:
        return "quiet"
    return "pending" if evaluated.rule.holds_for else "fires"
