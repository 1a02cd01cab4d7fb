"""Broker events in our model, under the ids that the workers' own agents give to the same transitions.

Pure: no connection, no thread, no clock. It is called from one thread, with one event at a time; what it has to say
goes to `emit`, as the line that is sent.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sluice_agent.ignoring import ignoring
from sluice_agent.log import complain, logger
from sluice_agent.monitor.bindings import Bindings
from sluice_agent.monitor.events import external_id_of, text
from sluice_agent.monitor.inspection import Inspection
from sluice_agent.monitor.jobs import Jobs
from sluice_agent.monitor.later import Later
from sluice_agent.monitor.memory import Run
from sluice_agent.monitor.missing import MISSING_SECONDS, Missing
from sluice_agent.monitor.telling import Telling
from sluice_agent.monitor.view import WorkerView
from sluice_agent.monitor.workers import Workers
from sluice_agent.redaction import Redact

_OTHER = "other"  # under which events of other types than Celery's own are counted


class Observer:
    """What is known of a cluster from its events, and what is told of it.

    `lost` counts, by reason, an event that could not be understood. Arguments and results (as the texts that events
    carry) are told only with `redact`, and through it. `remember` is a number of tasks. A worker's heartbeat is told
    once in `heartbeat_interval` seconds; 0: never. `agent_seconds` is how long it may take until a worker shows that
    an agent of its own reports its jobs: what happens before is held for so long. A
    job that has waited for `missing_seconds`, and is in no queue and with no worker, is reported as `unknown`.
    """

    def __init__(
        self,
        *,
        connection_id: str,
        emit: Callable[[bytes], None],
        lost: Callable[[str], None],
        ignore_tasks: tuple[str, ...] = (),
        redact: Redact | None = None,
        remember: int = 100_000,
        heartbeat_interval: float = 5.0,
        agent_seconds: float = 0.0,
        missing_seconds: float = MISSING_SECONDS,
    ) -> None:
        self._drop = lost
        self._later = Later()
        self._workers = Workers(
            connection_id=connection_id,
            emit=emit,
            later=self._later,
            heartbeat_interval=heartbeat_interval,
            lost=self._lost_run,
            agent_seconds=agent_seconds,
        )
        self._bindings = Bindings()
        telling = Telling(connection_id, emit, self._workers.emit_for, ignoring(ignore_tasks), redact)
        self._jobs = Jobs(
            connection_id=connection_id,
            telling=telling,
            remember=remember,
            bindings=self._bindings,
            workers=self._workers,
            later=self._later,
        )
        self._missing = Missing(
            memory=self._jobs.memory, workers=self._workers, telling=telling, later=self._later, seconds=missing_seconds
        )
        self._inspection = Inspection(
            jobs=self._jobs,
            workers=self._workers,
            telling=telling,
            bindings=self._bindings,
            later=self._later,
            missing=self._missing,
        )
        self.event_counts: Counter[str] = Counter()
        """How many events were taken, by their types."""

    def take(self, event: Mapping[str, Any]) -> None:
        """One event as it came off the wire. It never raises: what can't be understood is counted."""
        try:
            kind = event["type"]
            handle = self._jobs.handlers.get(kind)
            if handle is not None:
                self.event_counts[kind] += 1
                external_id = external_id_of(event.get("uuid"))
                if external_id is None:
                    raise ValueError("it names no job")  # noqa: TRY301 - it is counted here
                handle(external_id, event)
                return
            hear = self._workers.handlers.get(kind)
            self.event_counts[kind if hear else _OTHER] += 1
            if hear is not None:
                if text(event, "hostname") is None:
                    raise ValueError("it names no worker")  # noqa: TRY301 - it is counted here
                hear(self._workers.at(event), event)
        except Exception as error:  # noqa: BLE001 - events come from anybody who can reach the broker
            self._lose(error)

    def advance(self, now: float) -> None:
        """The events that are taken next were read at `now`, in seconds of the epoch.

        What waits for a later event waits from then, not from the last tick.
        """
        self._later.advance(now)

    def learned(self, worker: str, what: str, reply: Any) -> None:
        """A worker's answer to an inspection: `what` is one of the inspector's QUESTIONS."""
        try:
            self._inspection.learned(worker, what, reply)
        except Exception as error:  # noqa: BLE001 - a worker of any version may answer
            self._lose(error)

    def tick(self, now: float) -> None:
        """It is `now`, in seconds of the epoch. To be called about once a second."""
        try:
            self._later.wind(now)
            self._workers.tick(now)
            self._missing.look()
        except Exception as error:  # noqa: BLE001 - the next look may do better
            self._lose(error)

    @property
    def heard(self) -> int:
        """A number that grows with what is heard, and told later: see `told_before`."""
        return self._later.asked

    @property
    def told_before(self) -> float:
        """What was heard by the time at which `heard` was this number, or a smaller one, is told."""
        return self._later.oldest_known

    @property
    def suspected_queues(self) -> Collection[str]:
        """Queues of which it is to be known whether they are empty: jobs seem to wait there for long."""
        return self._missing.queues

    def seen_in_queues(self, ready: Mapping[str, int]) -> None:
        """So many messages wait in each of the `suspected_queues`, as was seen after they were asked for."""
        try:
            self._missing.seen(ready)
        except Exception as error:  # noqa: BLE001 - the next look may do better
            self._lose(error)

    def finish(self) -> None:
        """No more events will come: what waits for one that says more is told as it is known."""
        while len(self._later):
            try:
                self._later.finish()
            except Exception as error:  # noqa: BLE001 - the others shall be told
                self._lose(error)

    def reconnected(self, now: float, gap_seconds: float) -> None:
        """After `gap_seconds` of deafness events arrive again: some may be missing."""
        logger.info("The monitor listens again after %.1f s; what it may have missed is asked for.", gap_seconds)
        self._later.now = now
        self._workers.reconnected(now)

    def stand_by(self) -> None:
        """Another monitor may hear what happens, until something is heard here: silence means nothing."""
        self._workers.stand_by()

    def took_over(self, now: float) -> None:
        """Another monitor has heard what happened before, the ends of runs that workers have told us of among it."""
        self._workers.took_over(now)
        self._jobs.forget_hearsay()

    def unasked(self) -> list[str]:
        """The workers that are to be asked now: new ones, those that have returned, and all after a gap."""
        return self._workers.unasked()

    def seeks_strangers(self) -> bool:
        """Whether those are to be asked now of which nothing was ever heard, since this was called last."""
        return self._workers.seeks_strangers()

    @property
    def remembered(self) -> int:
        """How many tasks are remembered."""
        return len(self._jobs.memory)

    @property
    def known_workers(self) -> int:
        """How many worker processes are known, those included that went a short while ago."""
        return len(self._workers)

    def workers(self) -> Mapping[str, WorkerView]:
        """The workers that are online, by their names."""
        return self._workers.online()

    def queues(self) -> set[str]:
        """The queues that workers take from, or that tasks were seen in."""
        return set(self._bindings.names)

    def _lost_run(self, external_id: str, run: Run, at: float, reason: str) -> None:
        self._jobs.lost(external_id, run, at, reason)

    def _lose(self, error: Exception) -> None:
        self._drop("malformed_event")
        complain("event", "An event could not be understood (%s: %s); it is counted.", type(error).__name__, error)
        logger.debug("An event could not be understood", exc_info=sys.exc_info())
