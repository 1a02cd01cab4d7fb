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
from sluice_agent.monitor.tracker.agent_discovery import AgentDiscovery
from sluice_agent.monitor.tracker.bindings import Bindings
from sluice_agent.monitor.tracker.control_replies import ControlReplies
from sluice_agent.monitor.tracker.inspections import Inspections
from sluice_agent.monitor.tracker.missing_jobs import MISSING_SECONDS, MissingJobs
from sluice_agent.monitor.tracker.publications import Publications
from sluice_agent.monitor.tracker.recorder import Recorder
from sluice_agent.monitor.tracker.registered_tasks import RegisteredTasks
from sluice_agent.monitor.tracker.task_events import TaskEvents
from sluice_agent.monitor.tracker.task_store import RECENT, TaskStore
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.worker_events import WorkerEvents
from sluice_agent.monitor.tracker.worker_store import TrackedWorker, WorkerStore

_OTHER = "other"  # counts the events of types that are not Celery's own


class Tracker:
    """The state of a cluster, as its events show it, and the reporter of its jobs and workers.

    The sink's `redact` receives arguments and results as the texts that events carry; its `drop` counts events that
    could not be processed. `remember` is a number of tasks; but for the `recent` ones, those that have ended take less
    memory. A worker's heartbeat is reported once in `heartbeat_interval` seconds; 0: never. `agent_seconds` is how long
    it may take until a worker shows that its agent reports its jobs: events before that are held for so long. A job
    that has waited for `missing_seconds`, and is in no queue and with no worker, is reported as `unknown`.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        remember: int = 100_000,
        recent: int = RECENT,
        heartbeat_interval: float = 5.0,
        agent_seconds: float = 0.0,
        missing_seconds: float = MISSING_SECONDS,
    ) -> None:
        self._sink = sink
        self._timers = timers = Timers()
        self._bindings = bindings = Bindings()
        registered_tasks = RegisteredTasks()
        agent_discovery = AgentDiscovery(sink, timers, agent_seconds)
        self._workers = workers = WorkerStore(timers, agent_discovery.on_new)
        self._inspections = inspections = Inspections(workers, timers)
        self._recorder = recorder = Recorder(sink, workers)
        self._tasks = tasks = TaskStore(remember, recorder.forget, recent)
        self._task_events = TaskEvents(
            sink=sink,
            recorder=recorder,
            publications=Publications(sink=sink, recorder=recorder, workers=workers, bindings=bindings, timers=timers),
            tasks=tasks,
            workers=workers,
            registered_tasks=registered_tasks,
            timers=timers,
        )
        self._worker_events = WorkerEvents(
            sink=sink,
            recorder=recorder,
            tasks=tasks,
            workers=workers,
            agent_discovery=agent_discovery,
            inspections=inspections,
            timers=timers,
            heartbeat_interval=heartbeat_interval,
        )
        self._missing_jobs = MissingJobs(
            recorder=recorder,
            tasks=tasks,
            workers=workers,
            inspections=inspections,
            timers=timers,
            seconds=missing_seconds,
        )
        self._control_replies = ControlReplies(
            recorder=recorder,
            tasks=tasks,
            workers=workers,
            worker_events=self._worker_events,
            agent_discovery=agent_discovery,
            registered_tasks=registered_tasks,
            missing_jobs=self._missing_jobs,
            bindings=bindings,
            timers=timers,
        )
        self.event_counts: Counter[str] = Counter()
        """Number of events received, by type."""

    def take(self, event: Mapping[str, Any]) -> None:
        """Process one event as it came off the wire. Never raise: an event that can't be processed is counted."""
        try:
            kind = event["type"]
            task_events = self._task_events
            if kind in task_events.kinds:
                self.event_counts[kind] += 1
                task_events.take(kind, event)
            elif kind in self._worker_events.handlers:
                self.event_counts[kind] += 1
                self._worker_events.take(kind, event)
            else:
                self.event_counts[_OTHER] += 1
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
            self._missing_jobs.check(is_standby=self._worker_events.is_standby)
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
        for task in self._tasks:
            self._recorder.forget_unconfirmed(task)

    def take_due_inspections(self) -> list[str]:
        """Return the workers to inspect now, once: new ones, those that have returned, and all after a gap."""
        return self._inspections.take_due()

    def take_due_discovery(self) -> bool:
        """Return whether to inspect unknown workers too, once for a request: a worker may send no events at all."""
        return self._inspections.take_discovery()

    @property
    def remembered(self) -> int:
        """Number of tasks that are remembered."""
        return len(self._tasks)

    @property
    def known_workers(self) -> int:
        """Number of worker processes that are known, including those that have gone a short while ago."""
        return len(self._workers)

    def workers(self) -> Mapping[str, TrackedWorker]:
        """Return the workers that are online, by name."""
        return self._workers.online()

    def queues(self) -> set[str]:
        """Return the queues that workers consume, or that tasks were seen in."""
        return set(self._bindings.names)

    def _drop_malformed(self, error: Exception) -> None:
        self._sink.drop("malformed_event")
        warn_limited("event", "Could not process an event (%s: %s): counted as dropped.", type(error).__name__, error)
        logger.debug("Could not process an event", exc_info=sys.exc_info())
