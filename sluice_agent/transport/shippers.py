"""The shippers of a directory: one for every destination that the settings configure, in parallel."""

from __future__ import annotations

import time
from pathlib import Path

from sluice_agent.settings import Settings
from sluice_agent.transport.ackly import AcklyEndpoint
from sluice_agent.transport.budget import NO_BUDGET, Budget
from sluice_agent.transport.destination import Destination
from sluice_agent.transport.selector import JobFilter
from sluice_agent.transport.shipper import Shipper
from sluice_agent.transport.sluice import SluiceEndpoint

SLUICE, ACKLY = SluiceEndpoint.name, AcklyEndpoint.name

_ACKLY_MAX_LINES = 1  # every event is accounted for before the next is sent, as Ackly does not deduplicate
_ACKLY_MAX_BYTES = 1_000_000  # read at once


def destinations(settings: Settings) -> dict[str, JobFilter | None]:
    """Return the names of the destinations, with their job filters; `stats()` reports on the first one."""
    ships_to_ackly = settings.ackly_ingest_key is not None
    ships_to_sluice = settings.api_key is not None or not ships_to_ackly  # without any key another process ships there
    job_filters: dict[str, JobFilter | None] = {SLUICE: None} if ships_to_sluice else {}
    return {**job_filters, ACKLY: _job_filter(settings)} if ships_to_ackly else job_filters


def _job_filter(settings: Settings) -> JobFilter:
    return JobFilter(settings.ackly_states, settings.ackly_tasks)


class Shippers:
    """One `Shipper` for every destination whose key is set, used as one. None of them waits for another."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._shippers: list[Shipper] = []
        if settings.api_key is not None:
            sluice = SluiceEndpoint(settings.ingest_url, settings.api_key.get_secret_value())
            budget = Budget(settings.daily_budget)
            self._add(settings, directory, sluice, settings.batch_size, settings.batch_bytes, budget)
        if settings.ackly_ingest_key is not None:
            key = settings.ackly_ingest_key.get_secret_value()
            ackly = AcklyEndpoint(settings.ackly_url, key, _job_filter(settings))
            self._add(settings, directory, ackly, _ACKLY_MAX_LINES, _ACKLY_MAX_BYTES, NO_BUDGET)

    def _add(
        self,
        settings: Settings,
        directory: Path,
        destination: Destination,
        max_lines: int,
        max_bytes: int,
        budget: Budget,
    ) -> None:
        self._shippers.append(
            Shipper(
                directory,
                destination,
                interval=settings.flush_interval,
                max_lines=max_lines,
                max_bytes=max_bytes,
                budget=budget,
            )
        )

    def request_priority(self) -> None:
        """Request the locks from processes without priority: this process is a worker's, or a command that ships."""
        for shipper in self._shippers:
            shipper.request_priority()

    def start(self) -> bool:
        """Ship from threads of this process; return False if one can't be started."""
        for shipper in self._shippers:
            shipper.claim()
        started = [shipper.start() for shipper in self._shippers]  # all, as a limit of threads may stop only some
        return all(started)

    def stop(self, timeout: float) -> None:
        """Deliver for at most `timeout` seconds, until a delivery fails; the rest stays in the journal."""
        deadline = time.monotonic() + timeout
        for shipper in self._shippers:
            shipper.begin_shutdown(timeout)
        for shipper in self._shippers:
            shipper.join(max(deadline - time.monotonic(), 0.0))

    def deliver(self, timeout: float) -> None:
        """Deliver the pending events for at most `timeout` seconds, and wait for the requests that are then sent."""
        for shipper in self._shippers:
            shipper.begin_shutdown(timeout)
        self.start()
        for shipper in self._shippers:
            shipper.join()

    def wake(self) -> None:
        """Read the journal now, rather than at the next interval."""
        for shipper in self._shippers:
            shipper.wake()

    def forget(self) -> None:
        """Close the copies of a forked child: it has no threads, and the parent keeps the locks."""
        for shipper in self._shippers:
            shipper.forget()
