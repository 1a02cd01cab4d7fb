"""The command ``sluice-agent``, put together from `sluice_agent.commands`."""

from __future__ import annotations

from typing import Any

import click

from sluice_agent import __version__
from sluice_agent.commands.common import UserError
from sluice_agent.commands.dead import dead
from sluice_agent.commands.doctor import doctor
from sluice_agent.commands.job import job
from sluice_agent.commands.jobs import jobs
from sluice_agent.commands.key import key
from sluice_agent.commands.monitor import monitor
from sluice_agent.commands.serve import serve
from sluice_agent.commands.ship import ship
from sluice_agent.commands.status import status
from sluice_agent.commands.tail import tail
from sluice_agent.errors import SluiceError


class _Commands(click.Group):
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


for command in (serve, monitor, ship, status, doctor, dead, job, jobs, tail, key):
    main.add_command(command)
