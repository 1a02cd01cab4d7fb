"""The shippers of a directory: one for every destination that the settings configure, in parallel."""

from __future__ import annotations

import time
from pathlib import Path

from sluice_agent.settings import Settings
from sluice_agent.transport.delivery.budget import NO_BUDGET, Budget
from sluice_agent.transport.delivery.destinations.ackly import AcklyEndpoint
from sluice_agent.transport.delivery.destinations.base import ACKLY, SLUICE, configured
from sluice_agent.transport.delivery.destinations.sluice import SluiceEndpoint
from sluice_agent.transport.delivery.shipper import Shipper

_ACKLY_MAX_LINES = 1  # every event is accounted for before the next is sent, as Ackly does not deduplicate
_ACKLY_MAX_BYTES = 1_000_000  # read at once


def _sluice_shipper(settings: Settings, directory: Path, key: str) -> Shipper:
    return Shipper(
        directory,
        SluiceEndpoint(SLUICE.url(settings), key),
        interval=settings.flush_interval,
        max_lines=settings.batch_size,
        max_bytes=settings.batch_bytes,
        budget=Budget(settings.daily_budget),
    )


def _ackly_shipper(settings: Settings, directory: Path, key: str) -> Shipper:
    return Shipper(
        directory,
        AcklyEndpoint(ACKLY.url(settings), key, ACKLY.job_filter(settings)),
        interval=settings.flush_interval,
        max_lines=_ACKLY_MAX_LINES,
        max_bytes=_ACKLY_MAX_BYTES,
        budget=NO_BUDGET,
    )


_FACTORIES = {SLUICE.name: _sluice_shipper, ACKLY.name: _ackly_shipper}


class Shippers:
    """One `Shipper` for every destination whose key is set, used as one. None of them waits for another."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._shippers: list[Shipper] = []
        for spec in configured(settings):
            key = spec.key(settings)
            if key is not None:
                self._shippers.append(_FACTORIES[spec.name](settings, directory, key))

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
