"""What the commands share: errors that a user can mend, and whose journal is meant."""

from __future__ import annotations

from pathlib import Path

import click

from sluice_agent.settings import Settings
from sluice_agent.transport.folder import find_folder, open_folder


class Sentence(click.ClickException):
    """What a user can mend: one sentence, exit code 2."""

    exit_code = 2


def journal_folder(settings: Settings) -> Path:
    """The journal of the connection that `settings` name, made where it is absent. Raises `Sentence` without one."""
    return open_folder(settings.state_dir, _connection(settings))


def place_of_journal(settings: Settings) -> Path:
    """Where that journal is, or would be made, for those who only look: root must not make it its own."""
    return find_folder(settings.state_dir, _connection(settings))


def _connection(settings: Settings) -> str:
    if settings.connection_id is None and settings.ackly_ingest_key is None:
        raise Sentence("SLUICE_CONNECTION_ID is not set: it must hold the UUID of the connection whose journal this is")
    return str(settings.connection)
