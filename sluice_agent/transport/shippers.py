"""The shippers of a folder: one for each destination that the settings name, side by side."""

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

_ONE_BY_ONE = 1  # Ackly's events: each is accounted for before the next leaves, as it does not know duplicates
_MOST_BYTES_READ = 1_000_000


def destinations(settings: Settings) -> dict[str, JobFilter | None]:
    """Where events go, by name, and what is chosen for there; the first is the one that `stats()` speaks of."""
    tells_ackly = settings.ackly_ingest_key is not None
    tells_sluice = settings.api_key is not None or not tells_ackly  # without any key another process ships there
    found: dict[str, JobFilter | None] = {SLUICE: None} if tells_sluice else {}
    return {**found, ACKLY: _job_filter(settings)} if tells_ackly else found


def _job_filter(settings: Settings) -> JobFilter:
    return JobFilter(settings.ackly_states, settings.ackly_tasks)


class Shippers:
    """One `Shipper` to a destination whose key is set, as one. None of them waits for another."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._all: list[Shipper] = []
        if settings.api_key is not None:
            sluice = SluiceEndpoint(settings.ingest_url, settings.api_key.get_secret_value())
            budget = Budget(settings.daily_budget)
            self._add(settings, directory, sluice, settings.batch_size, settings.batch_bytes, budget)
        if settings.ackly_ingest_key is not None:
            key = settings.ackly_ingest_key.get_secret_value()
            ackly = AcklyEndpoint(settings.ackly_url, key, _job_filter(settings))
            self._add(settings, directory, ackly, _ONE_BY_ONE, _MOST_BYTES_READ, NO_BUDGET)

    def _add(
        self,
        settings: Settings,
        directory: Path,
        destination: Destination,
        most_lines: int,
        most_bytes: int,
        budget: Budget,
    ) -> None:
        self._all.append(
            Shipper(
                directory,
                destination,
                interval=settings.flush_interval,
                most_lines=most_lines,
                most_bytes=most_bytes,
                budget=budget,
            )
        )

    def request_priority(self) -> None:
        """Take the lock over from processes that don't precede: this one is the worker's, or there to ship."""
        for each in self._all:
            each.request_priority()

    def start(self) -> bool:
        """Ship from threads of this process; False where one could not be started."""
        for each in self._all:
            each.claim()
        started = [each.start() for each in self._all]  # each of them: one may be the last for which there is room
        return all(started)

    def stop(self, timeout: float) -> None:
        """Deliver for `timeout` seconds at the most, and while that works; the rest stays in the journal."""
        deadline = time.monotonic() + timeout
        for each in self._all:
            each.begin_shutdown(timeout)
        for each in self._all:
            each.join(max(deadline - time.monotonic(), 0.0))

    def deliver(self, timeout: float) -> None:
        """Deliver what there is for `timeout` seconds at the most, and wait for what is then on its way."""
        for each in self._all:
            each.begin_shutdown(timeout)
        self.start()
        for each in self._all:
            each.join()

    def wake(self) -> None:
        """Look at the journal now rather than at the next interval."""
        for each in self._all:
            each.wake()

    def forget(self) -> None:
        """In a forked child: the threads are not there, and the locks are the parent's."""
        for each in self._all:
            each.forget()
