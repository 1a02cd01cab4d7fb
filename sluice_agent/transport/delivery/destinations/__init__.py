"""The endpoints that events are sent to, a file each, and which of them the settings configure.

A further destination is one more file, its entry in `DESTINATIONS`, and its fields in the settings.
"""

from __future__ import annotations

from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.destinations.ackly import ACKLY
from sluice_agent.transport.delivery.destinations.base import Destination
from sluice_agent.transport.delivery.destinations.sluice import SLUICE
from sluice_agent.transport.journal.line_selector import JobFilter

__all__ = ["ACKLY", "DESTINATIONS", "SLUICE", "Destination", "configured", "job_filters"]

DESTINATIONS: tuple[Destination, ...] = (SLUICE, ACKLY)


def configured(settings: Settings, destinations: tuple[Destination, ...] = DESTINATIONS) -> tuple[Destination, ...]:
    """Return the destinations whose keys are set; `stats()` reports on the first one.

    Without any key it is the first of all alone: another process ships there.
    """
    with_key = tuple(destination for destination in destinations if destination.key(settings) is not None)
    return with_key or destinations[:1]


def job_filters(
    settings: Settings, destinations: tuple[Destination, ...] = DESTINATIONS
) -> dict[str, JobFilter | None]:
    """Return the job filters of the configured destinations, by name and in their order."""
    return {destination.name: destination.job_filter(settings) for destination in configured(settings, destinations)}
