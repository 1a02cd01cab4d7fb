"""What the commands that run for long say to probes: the report of `status`, and whether the monitor hears."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sluice_agent.health import Health, HealthServer, serve_health
from sluice_agent.health.problems import problems_of
from sluice_agent.settings import Settings
from sluice_agent.transport.accounting import report_on
from sluice_agent.transport.shippers import destinations

if TYPE_CHECKING:
    from sluice_agent.monitor import MonitorState


def serve_probes(
    settings: Settings, directory: Path, state: Callable[[], MonitorState] | None = None
) -> HealthServer | None:
    """Serve `SLUICE_HEALTH_ADDR` for the journal in `directory` and the monitor whose `state` it is, until stopped.

    None where the variable is not set. Raises `ConfigError` where nothing can listen there.
    """
    if settings.health_addr is None:
        return None
    return serve_health(settings.health_addr, lambda: health_of(settings, directory, state() if state else None))


def health_of(settings: Settings, directory: Path, state: MonitorState | None) -> Health:
    """Health as of now. It is ready where `status` finds nothing wrong, and a monitor hears its broker."""
    named = destinations(settings)
    report = report_on(directory, named)
    found = problems_of(report, named, settings.journal_max_bytes)
    problems = {"_".join(filter(None, (one.problem, one.destination))): one.what for one in found}
    if state is not None and not state.connected:
        silence = (
            f"the broker's events have not been heard for {state.silent_seconds:.0f} s"
            if state.connections
            else f"no connection to the broker's events was made since the start, {state.silent_seconds:.0f} s ago"
        )
        problems["receiver_deaf"] = f"{silence}: is it up, and is its address right? The log says why"
    return Health(report=report, problems=problems, most_bytes=settings.journal_max_bytes, monitor=state)
