"""Shared by the commands: errors that a user can correct, and the path of the journal."""

from __future__ import annotations

from pathlib import Path

import click

from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import SLUICE, configured
from sluice_agent.transport.journal.directory import find_directory, open_directory

NO_KEY = f"{SLUICE.key_variable} is not set: it must hold the ingest key, sk_…"


class UserError(click.ClickException):
    """An error that the user can correct: one sentence, exit code 2."""

    exit_code = 2


def open_journal(settings: Settings) -> Path:
    """Return the journal of the connection in `settings`, created if absent. Raises `UserError` if it is unset."""
    return open_directory(settings.state_dir, _connection(settings))


def find_journal(settings: Settings) -> Path:
    """Return the path of that journal without creating it: a journal that root creates belongs to root."""
    return find_directory(settings.state_dir, _connection(settings))


def _connection(settings: Settings) -> str:
    if settings.connection_id is None and all(destination.needs_connection for destination in configured(settings)):
        raise UserError(
            "SLUICE_CONNECTION_ID is not set: it must hold the UUID of the connection, as workers have "
            "it; `sluice-agent serve` prints one for a server of your own"
        )
    return str(settings.connection)
