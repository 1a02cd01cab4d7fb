"""The shippers of a directory: one for every destination that the settings configure, in parallel."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.budget import Budget
from sluice_agent.transport.delivery.client import EndpointClient
from sluice_agent.transport.delivery.destinations import DESTINATIONS, Destination, configured
from sluice_agent.transport.delivery.shipper import Shipper
from sluice_agent.transport.delivery.timing import TIMING, Timing


class Shippers:
    """One `Shipper` for every destination whose key is set, used as one. None of them waits for another."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        destinations: tuple[Destination, ...] = DESTINATIONS,
        timing: Timing = TIMING,
    ) -> None:
        self._shippers = [
            _shipper(settings, directory, destination, key, timing)
            for destination in configured(settings, destinations)
            if (key := destination.key(settings)) is not None
        ]

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


def _shipper(settings: Settings, directory: Path, destination: Destination, key: str, timing: Timing) -> Shipper:
    limits = destination.limits(settings)
    return Shipper(
        directory,
        destination.name,
        partial(EndpointClient, destination, destination.url(settings), key),
        interval=settings.flush_interval,
        max_lines=limits.max_lines,
        max_bytes=limits.max_bytes,
        deduplicates=destination.deduplicates,
        job_filter=destination.job_filter(settings),
        budget=Budget(limits.daily_budget),
        timing=timing,
    )
