"""Health of long-running commands, for probes: the report of `status`, and the monitor's connection."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sluice_agent.health import Health, HealthServer, serve_health
from sluice_agent.health.problems import problems_of
from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations import DESTINATIONS, Destination, configured, job_filters
from sluice_agent.transport.journal.accounting import report_on

if TYPE_CHECKING:
    from sluice_agent.monitor import MonitorState


def serve_probes(
    settings: Settings, directory: Path, state: Callable[[], MonitorState] | None = None
) -> HealthServer | None:
    """Serve `SLUICE_HEALTH_ADDR`, for the journal in `directory` and a monitor's `state`, until stopped.

    Return None if the variable is not set. Raises `ConfigError` if the address can't be listened on.
    """
    if settings.health_addr is None:
        return None
    return serve_health(settings.health_addr, lambda: health_of(settings, directory, state() if state else None))


def health_of(
    settings: Settings,
    directory: Path,
    state: MonitorState | None,
    destinations: tuple[Destination, ...] = DESTINATIONS,
) -> Health:
    """Return the present health: ready if `status` finds no problem and a monitor is connected to its broker."""
    report = report_on(directory, job_filters(settings, destinations))
    problems = {}
    for problem in problems_of(report, configured(settings, destinations), settings.journal_max_bytes):
        problems["_".join(filter(None, (problem.problem, problem.destination)))] = problem.what
    if state is not None and not state.connected:
        reason = (
            f"nothing was received from the broker for {state.silent_seconds:.0f} s"
            if state.connections
            else f"the monitor has not connected to the broker since its start, {state.silent_seconds:.0f} s ago"
        )
        problems["receiver_deaf"] = f"{reason}: is the broker up, and is its address right? The log has the reason"
    return Health(report=report, problems=problems, max_bytes=settings.journal_max_bytes, monitor=state)
