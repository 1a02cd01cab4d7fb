"""``sluice-agent ship``: a shipper in a process of its own."""

from __future__ import annotations

import math
import signal

import click

from sluice_agent.agent import EXIT_BUDGET
from sluice_agent.commands.common import UserError, open_journal
from sluice_agent.commands.probes import serve_probes
from sluice_agent.settings import Settings
from sluice_agent.transport.accounting import accounts
from sluice_agent.transport.cursor import cursor_path, load_cursor
from sluice_agent.transport.shippers import Shippers, destinations


@click.command()
@click.option("--once", is_flag=True, help="Deliver what there is, and end: with 1 where something is left.")
def ship(once: bool) -> None:
    """Ship the journal of SLUICE_STATE_DIR: for workers that run with SLUICE_SHIP=never.

    Runs until SIGTERM or SIGINT, then delivers what is left for up to 5 seconds. While another process ships the same
    folder this one waits, and takes over when that one dies. SLUICE_HEALTH_ADDR serves /healthz, /readyz and /metrics.
    """
    settings = Settings()
    if settings.api_key is None and settings.ackly_ingest_key is None:
        raise UserError("SLUICE_API_KEY is not set: it must hold the ingest key, sk_…")
    directory = open_journal(settings)
    shippers = Shippers(settings, directory)
    if once:
        shippers.deliver(math.inf)
        left = {name: load_cursor(cursor_path(directory, name)) for name in destinations(settings)}
        waiting = {name: accounts(directory, place)["pending"] for name, place in left.items()}
        if any(waiting.values()):
            told = ", ".join(f"{count:,} for {name}" for name, count in waiting.items() if count)
            raise click.ClickException(f"events are left in {directory}: {told}; sluice-agent status says why")
        return
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    probes = serve_probes(settings, directory)
    shippers.request_priority()
    if not shippers.start():
        raise click.ClickException("no thread can be started to ship from: raise the limit of this user's processes")
    signal.sigwait(ends)
    shippers.stop(EXIT_BUDGET)
    if probes is not None:
        probes.stop()
