"""Broker events in our model, under the ids that the workers' own agents give to the same transitions.

Pure: no connection, no thread, no clock. It is called from one thread, with one event at a time; what it has to say
goes to `emit`, as the line that is sent.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sluice_agent.globs import matcher
from sluice_agent.log import complain, logger
from sluice_agent.monitor.bindings import Bindings
from sluice_agent.monitor.control_replies import ControlReplies
from sluice_agent.monitor.job_reporter import JobReporter
from sluice_agent.monitor.missing_jobs import MISSING_SECONDS, MissingJobs
from sluice_agent.monitor.parsing import external_id_of, get_text
from sluice_agent.monitor.task_events import TaskEvents
from sluice_agent.monitor.task_store import Run
from sluice_agent.monitor.timers import Timers
from sluice_agent.monitor.tracked_worker import TrackedWorker
from sluice_agent.monitor.worker_events import WorkerEvents
from sluice_agent.redaction import Redact

_OTHER = "other"  # under which events of other types than Celery's own are counted


class Tracker:
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
        drop: Callable[[str], None],
        ignore_tasks: tuple[str, ...] = (),
        redact: Redact | None = None,
        remember: int = 100_000,
        heartbeat_interval: float = 5.0,
        agent_seconds: float = 0.0,
        missing_seconds: float = MISSING_SECONDS,
    ) -> None:
        self._drop = drop
        self._timers = Timers()
        self._worker_events = WorkerEvents(
            connection_id=connection_id,
            emit=emit,
            timers=self._timers,
            heartbeat_interval=heartbeat_interval,
            on_lost_run=self._report_lost_run,
            agent_seconds=agent_seconds,
        )
        self._bindings = Bindings()
        reporter = JobReporter(connection_id, emit, self._worker_events.emit_for, matcher(ignore_tasks), redact)
        self._task_events = TaskEvents(
            connection_id=connection_id,
            reporter=reporter,
            remember=remember,
            bindings=self._bindings,
            workers=self._worker_events,
            timers=self._timers,
        )
        self._missing_jobs = MissingJobs(
            store=self._task_events.store,
            workers=self._worker_events,
            reporter=reporter,
            timers=self._timers,
            seconds=missing_seconds,
        )
        self._control_replies = ControlReplies(
            task_events=self._task_events,
            workers=self._worker_events,
            reporter=reporter,
            bindings=self._bindings,
            timers=self._timers,
            missing_jobs=self._missing_jobs,
        )
        self.event_counts: Counter[str] = Counter()
        """How many events were taken, by their types."""

    def take(self, event: Mapping[str, Any]) -> None:
        """One event as it came off the wire. It never raises: what can't be understood is counted."""
        try:
            kind = event["type"]
            handle = self._task_events.handlers.get(kind)
            if handle is not None:
                self.event_counts[kind] += 1
                external_id = external_id_of(event.get("uuid"))
                if external_id is None:
                    raise ValueError("it names no job")  # noqa: TRY301 - it is counted here
                handle(external_id, event)
                return
            hear = self._worker_events.handlers.get(kind)
            self.event_counts[kind if hear else _OTHER] += 1
            if hear is not None:
                if get_text(event, "hostname") is None:
                    raise ValueError("it names no worker")  # noqa: TRY301 - it is counted here
                hear(self._worker_events.touch(event), event)
        except Exception as error:  # noqa: BLE001 - events come from anybody who can reach the broker
            self._drop_malformed(error)

    def advance(self, now: float) -> None:
        """The events that are taken next were read at `now`, in seconds of the epoch.

        What waits for a later event waits from then, not from the last tick.
        """
        self._timers.advance(now)

    def on_reply(self, worker: str, question: str, reply: Any) -> None:
        """A worker's answer to an inspection: `question` is one of the inspector's QUESTIONS."""
        try:
            self._control_replies.on_reply(worker, question, reply)
        except Exception as error:  # noqa: BLE001 - a worker of any version may answer
            self._drop_malformed(error)

    def tick(self, now: float) -> None:
        """It is `now`, in seconds of the epoch. To be called about once a second."""
        try:
            self._timers.run_due(now)
            self._worker_events.tick(now)
            self._missing_jobs.check()
        except Exception as error:  # noqa: BLE001 - the next look may do better
            self._drop_malformed(error)

    @property
    def received_seq(self) -> int:
        """A number that grows with what is heard, and told later: see `ack_watermark`."""
        return self._timers.next_number

    @property
    def ack_watermark(self) -> float:
        """What was heard by the time at which `received_seq` was this number, or a smaller one, is told."""
        return self._timers.oldest_fact

    @property
    def suspected_queues(self) -> Collection[str]:
        """Queues of which it is to be known whether they are empty: jobs seem to wait there for long."""
        return self._missing_jobs.queues

    def on_queue_lengths(self, ready: Mapping[str, int]) -> None:
        """So many messages wait in each of the `suspected_queues`, as was seen after they were asked for."""
        try:
            self._missing_jobs.on_queue_lengths(ready)
        except Exception as error:  # noqa: BLE001 - the next look may do better
            self._drop_malformed(error)

    def finish(self) -> None:
        """No more events will come: what waits for one that says more is told as it is known."""
        while len(self._timers):
            try:
                self._timers.finish()
            except Exception as error:  # noqa: BLE001 - the others shall be told
                self._drop_malformed(error)

    def on_reconnect(self, now: float, gap_seconds: float) -> None:
        """After `gap_seconds` of deafness events arrive again: some may be missing."""
        logger.info("The monitor listens again after %.1f s; what it may have missed is asked for.", gap_seconds)
        self._timers.now = now
        self._worker_events.on_reconnect(now)

    def enter_standby(self) -> None:
        """Another monitor may hear what happens, until something is heard here: silence means nothing."""
        self._worker_events.enter_standby()

    def on_takeover(self, now: float) -> None:
        """Another monitor has heard what happened before, the ends of runs that workers have told us of among it."""
        self._worker_events.on_takeover(now)
        self._task_events.forget_unconfirmed()

    def due_for_inspection(self) -> list[str]:
        """The workers that are to be asked now: new ones, those that have returned, and all after a gap."""
        return self._worker_events.due_for_inspection()

    def due_for_discovery(self) -> bool:
        """Whether those are to be asked now of which nothing was ever heard, since this was called last."""
        return self._worker_events.due_for_discovery()

    @property
    def remembered(self) -> int:
        """How many tasks are remembered."""
        return len(self._task_events.store)

    @property
    def known_workers(self) -> int:
        """How many worker processes are known, those included that went a short while ago."""
        return len(self._worker_events)

    def workers(self) -> Mapping[str, TrackedWorker]:
        """The workers that are online, by their names."""
        return self._worker_events.online()

    def queues(self) -> set[str]:
        """The queues that workers take from, or that tasks were seen in."""
        return set(self._bindings.names)

    def _report_lost_run(self, external_id: str, run: Run, at: float, reason: str) -> None:
        self._task_events.report_lost_run(external_id, run, at, reason)

    def _drop_malformed(self, error: Exception) -> None:
        self._drop("malformed_event")
        complain("event", "An event could not be understood (%s: %s); it is counted.", type(error).__name__, error)
        logger.debug("An event could not be understood", exc_info=sys.exc_info())
