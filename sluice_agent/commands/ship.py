"""``sluice-agent ship``: a shipper in a separate process."""

from __future__ import annotations

import math
import signal
from dataclasses import replace

import click

from sluice_agent.commands.common import NO_KEY, UserError, open_journal
from sluice_agent.commands.logs import log_to_stderr
from sluice_agent.commands.probes import serve_probes
from sluice_agent.host_budgets import EXIT_BUDGET
from sluice_agent.notices import log_start, log_stop
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import configured
from sluice_agent.transport.delivery.shippers import Shippers
from sluice_agent.transport.journal.accounting import accounts
from sluice_agent.transport.journal.cursor import cursor_path, load_cursor


@click.command()
@click.option("--once", is_flag=True, help="Deliver the pending events and exit: with code 1 if some remain.")
def ship(once: bool) -> None:
    """Ship the journal of SLUICE_STATE_DIR: for workers that run with SLUICE_SHIP=never.

    Runs until SIGTERM or SIGINT, then delivers the remaining events for up to 5 seconds. While another process ships
    the same directory, this one waits; it takes over when the other dies. SLUICE_HEALTH_ADDR serves /healthz, /readyz
    and /metrics.
    """
    settings = Settings()
    if not settings.has_key:
        raise UserError(NO_KEY)
    log_to_stderr("text", settings.log_level)
    directory = open_journal(settings)
    shippers = Shippers(settings, directory)
    if once:
        shippers.deliver(math.inf)
        names = [destination.name for destination in configured(settings)]
        waiting = {name: accounts(directory, load_cursor(cursor_path(directory, name)))["pending"] for name in names}
        if any(waiting.values()):
            pending = ", ".join(f"{count:,} for {name}" for name, count in waiting.items() if count)
            raise click.ClickException(f"events remain in {directory}: {pending}; `sluice-agent status` shows why")
        return
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    probes = serve_probes(settings, directory)
    shippers.request_priority()
    if not shippers.start():
        raise click.ClickException("the shipper's thread can't be started: raise this user's limit of processes")
    ships_here = replace(settings, ship="auto")  # `never` is for the workers beside this command
    log_start(ships_here, directory, "`sluice-agent ship`")
    signal.sigwait(stop_signals)
    shippers.stop(EXIT_BUDGET)
    log_stop(settings, directory)
    if probes is not None:
        probes.stop()
