"""The command ``sluice-agent``, put together from `sluice_agent.commands`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from sluice_agent import __version__
from sluice_agent.commands.common import UserError
from sluice_agent.errors import SluiceError

_COMMANDS = (
    "alerts",
    "dead",
    "doctor",
    "job",
    "jobs",
    "key",
    "monitor",
    "run",
    "schedule",
    "serve",
    "ship",
    "status",
    "tail",
    "trigger",
)


class _Commands(click.Group):
    """The commands, of which only the one that runs is imported: a server keeps what it imports for months."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"sluice_agent.commands.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SluiceError as error:
            raise UserError(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sluice-agent")
def main() -> None:
    """Report everything that happens to every Celery job, worker and queue, and lose none of it.

    Every command reads the SLUICE_* variables that the agent in your workers reads.
    """
