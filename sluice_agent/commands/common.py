"""What the commands share: errors that a user can mend, and whose journal is meant."""

from __future__ import annotations

from pathlib import Path

import click

from sluice_agent.settings import Settings
from sluice_agent.transport.directory import find_directory, open_directory


class UserError(click.ClickException):
    """What a user can mend: one sentence, exit code 2."""

    exit_code = 2


def open_journal(settings: Settings) -> Path:
    """The journal of the connection that `settings` name, made where it is absent. Raises `UserError` without one."""
    return open_directory(settings.state_dir, _connection(settings))


def find_journal(settings: Settings) -> Path:
    """Where that journal is, or would be made, for those who only look: root must not make it its own."""
    return find_directory(settings.state_dir, _connection(settings))


def _connection(settings: Settings) -> str:
    if settings.connection_id is None and settings.ackly_ingest_key is None:
        raise UserError(
            "SLUICE_CONNECTION_ID is not set: it must hold the UUID of the connection whose journal this is"
        )
    return str(settings.connection)
