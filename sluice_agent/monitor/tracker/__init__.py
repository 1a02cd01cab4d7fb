"""Broker events in our model, under the ids that the workers' own agents give to the same transitions.

Pure: no connection, no thread, no clock. It is called from one thread, with one event at a time, and passes its own
events to a `Sink`, as the lines that are sent.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.log import logger, warn_limited
from sluice_agent.monitor.tracker.bindings import Bindings
from sluice_agent.monitor.tracker.control_replies import ControlReplies
from sluice_agent.monitor.tracker.job_reporter import JobReporter
from sluice_agent.monitor.tracker.missing_jobs import MISSING_SECONDS, MissingJobs
from sluice_agent.monitor.tracker.parsing import external_id_of, get_text
from sluice_agent.monitor.tracker.task_events import TaskEvents
from sluice_agent.monitor.tracker.task_store import Run
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.tracked_worker import TrackedWorker
from sluice_agent.monitor.tracker.worker_events import WorkerEvents

_OTHER = "other"  # counts the events of types that are not Celery's own


class Tracker:
    """The state of a cluster, as its events show it, and the reporter of its jobs and workers.

    The sink's `redact` receives arguments and results as the texts that events carry; its `drop` counts events that
    could not be processed. `remember` is a number of tasks. A worker's heartbeat is reported once in
    `heartbeat_interval` seconds; 0: never. `agent_seconds` is how long it may take until a worker shows that its agent
    reports its jobs: events before that are held for so long. A job that has waited for `missing_seconds`, and is in no
    queue and with no worker, is reported as `unknown`.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        remember: int = 100_000,
        heartbeat_interval: float = 5.0,
        agent_seconds: float = 0.0,
        missing_seconds: float = MISSING_SECONDS,
    ) -> None:
        self._sink = sink
        self._timers = Timers()
        self._worker_events = WorkerEvents(
            sink=sink,
            timers=self._timers,
            heartbeat_interval=heartbeat_interval,
            on_lost_run=self._report_lost_run,
            agent_seconds=agent_seconds,
        )
        self._bindings = Bindings()
        reporter = JobReporter(sink, self._worker_events.emit_for)
        self._task_events = TaskEvents(
            connection_id=sink.connection_id,
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
        """Number of events received, by type."""

    def take(self, event: Mapping[str, Any]) -> None:
        """Process one event as it came off the wire. Never raise: an event that can't be processed is counted."""
        try:
            kind = event["type"]
            handle_task = self._task_events.handlers.get(kind)
            if handle_task is not None:
                self.event_counts[kind] += 1
                external_id = external_id_of(event.get("uuid"))
                if external_id is None:
                    raise ValueError("it names no job")  # noqa: TRY301 - counted here
                handle_task(external_id, event)
                return
            handle_worker = self._worker_events.handlers.get(kind)
            self.event_counts[kind if handle_worker else _OTHER] += 1
            if handle_worker is not None:
                if get_text(event, "hostname") is None:
                    raise ValueError("it names no worker")  # noqa: TRY301 - counted here
                handle_worker(self._worker_events.touch(event), event)
        except Exception as error:  # noqa: BLE001 - any client of the broker may send events
            self._drop_malformed(error)

    def advance(self, now: float) -> None:
        """Set the time at which the next events were read to `now`, in seconds of the epoch.

        A report that is held for a later event is held from then, not from the last tick.
        """
        self._timers.advance(now)

    def on_reply(self, hostname: str, command: str, reply: Any) -> None:
        """Process an inspect reply of the worker `hostname`: `command` is one of INSPECT_COMMANDS."""
        try:
            self._control_replies.on_reply(hostname, command, reply)
        except Exception as error:  # noqa: BLE001 - workers of any version reply
            self._drop_malformed(error)

    def tick(self, now: float) -> None:
        """Run what is due at `now`, in seconds of the epoch. To be called about once a second."""
        try:
            self._timers.run_due(now)
            self._worker_events.tick(now)
            self._missing_jobs.check()
        except Exception as error:  # noqa: BLE001 - the next call may succeed
            self._drop_malformed(error)

    @property
    def received_seq(self) -> int:
        """A number that grows with every report that is held for later: see `ack_watermark`."""
        return self._timers.next_number

    @property
    def ack_watermark(self) -> float:
        """Events received while `received_seq` was at most this number are reported: they may be acknowledged."""
        return self._timers.oldest_fact

    @property
    def suspected_queues(self) -> Collection[str]:
        """Queues whose lengths are to be read: jobs seem to have waited there for long."""
        return self._missing_jobs.queues

    def on_queue_lengths(self, ready: Mapping[str, int]) -> None:
        """Receive the number of ready messages by queue, read after `suspected_queues` were requested."""
        try:
            self._missing_jobs.on_queue_lengths(ready)
        except Exception as error:  # noqa: BLE001 - the next call may succeed
            self._drop_malformed(error)

    def finish(self) -> None:
        """Report all that is held for more detail as it is known: no more events will come."""
        while len(self._timers):
            try:
                self._timers.finish()
            except Exception as error:  # noqa: BLE001 - the others are still to be reported
                self._drop_malformed(error)

    def on_reconnect(self, now: float, gap_seconds: float) -> None:
        """Note that events arrive again after `gap_seconds` without a connection: some may be missing."""
        logger.info("The monitor receives events again after %.1f s; it asks workers for what it missed.", gap_seconds)
        self._timers.now = now
        self._worker_events.on_reconnect(now)

    def enter_standby(self) -> None:
        """Go on standby: another monitor may receive the events, so silence means nothing until one arrives here."""
        self._worker_events.enter_standby()

    def on_takeover(self, now: float) -> None:
        """Take over from another monitor: it has received the events before, with the ends of our unconfirmed runs."""
        self._worker_events.on_takeover(now)
        self._task_events.forget_unconfirmed()

    def due_for_inspection(self) -> list[str]:
        """Return the workers to inspect now: new ones, those that have returned, and all after a gap."""
        return self._worker_events.due_for_inspection()

    def due_for_discovery(self) -> bool:
        """Return whether to inspect unknown workers too, as was requested since the last call."""
        return self._worker_events.due_for_discovery()

    @property
    def remembered(self) -> int:
        """Number of tasks that are remembered."""
        return len(self._task_events.store)

    @property
    def known_workers(self) -> int:
        """Number of worker processes that are known, including those that have gone a short while ago."""
        return len(self._worker_events)

    def workers(self) -> Mapping[str, TrackedWorker]:
        """Return the workers that are online, by name."""
        return self._worker_events.online()

    def queues(self) -> set[str]:
        """Return the queues that workers consume, or that tasks were seen in."""
        return set(self._bindings.names)

    def _report_lost_run(self, external_id: str, run: Run, at: float, reason: str) -> None:
        self._task_events.report_lost_run(external_id, run, at, reason)

    def _drop_malformed(self, error: Exception) -> None:
        self._sink.drop("malformed_event")
        warn_limited("event", "Could not process an event (%s: %s): counted as dropped.", type(error).__name__, error)
        logger.debug("Could not process an event", exc_info=sys.exc_info())
