"""Worker events in our model: online, heartbeat, busy, idle and offline, from a worker's events or its silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import intern

from sluice_agent.lifecycle.encoding import WorkerMetadata, worker_event
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.model import WorkerState
from sluice_agent.monitor.tracker.agent_discovery import AgentDiscovery
from sluice_agent.monitor.tracker.inspections import Inspections
from sluice_agent.monitor.tracker.parsing import Event, as_count, as_seconds, event_time, get_text
from sluice_agent.monitor.tracker.recorder import Recorder
from sluice_agent.monitor.tracker.task_store import TaskStore
from sluice_agent.monitor.tracker.tasks import Run
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.worker_store import USUAL_FREQUENCY, TrackedWorker, WorkerStore

_GAP_SECONDS = 5.0  # between two ticks: after a longer pause it may be this process that was silent
_OFFLINE_SECONDS = 15.0  # after `worker-offline`, in which the last event of a task may arrive
_FORGET_SECONDS = 60.0  # until a worker that has gone is forgotten
_LOAD_SECONDS = 1.0  # in which two reports of busy, or of idle, are one
_IDLE_SECONDS = 4.0  # in which no task ran: no event of an earlier run arrives after that
_NO_END_EVENT = "it ended, and no event reported how: Celery sends none for a task that raises Ignore"
_ENDED_IN_GAP = "it ended while the monitor had lost its connection"


class WorkerEvents:
    """Reports the workers' states, and the runs of which no event will report the end.

    Such a run is dated by the time at which it was last known to go on: an end that arrives after all is later, and
    corrects it.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        recorder: Recorder,
        tasks: TaskStore,
        workers: WorkerStore,
        agent_discovery: AgentDiscovery,
        inspections: Inspections,
        timers: Timers,
        heartbeat_interval: float,
    ) -> None:
        self._sink = sink
        self._recorder = recorder
        self._tasks = tasks
        self._workers = workers
        self._agent_discovery = agent_discovery
        self._inspections = inspections
        self._timers = timers
        self._heartbeat_interval = heartbeat_interval
        self._events_complete_since = 0.0
        self._ticked_at = 0.0
        self.is_standby = False
        """True if another monitor receives the events in place of this one."""
        self.handlers: Mapping[str, Callable[[TrackedWorker, Event], None]] = {
            "worker-online": self._on_online,
            "worker-heartbeat": self._on_heartbeat,
            "worker-offline": self._on_offline,
        }

    def take(self, kind: str, event: Event) -> None:
        """Process an event of a worker. Raises ValueError where it names none."""
        if get_text(event, "hostname") is None:
            raise ValueError("it names no worker")
        worker, _ = self._workers.touch(event)
        self.handlers[kind](worker, event)

    def on_reconnect(self, now: float) -> None:
        """Count no heartbeat as missed, and inspect all workers again: events may be missing up to `now`."""
        self._events_complete_since = now
        for worker in self._workers.all():
            worker.last_seen = max(worker.last_seen, now)
            worker.idle_since = None
            self._inspections.restart(worker)

    def enter_standby(self) -> None:
        """Go on standby: another monitor may receive the events in place of this one."""
        self.is_standby = True

    def on_takeover(self, now: float) -> None:
        """End the standby: the other monitor has reported ended runs; workers list those that go on when inspected."""
        if self.is_standby and now - self._events_complete_since > _GAP_SECONDS:
            for worker in self._workers.all():
                worker.remove_runs()
        self.is_standby = False

    def tick(self, now: float) -> None:
        """Report workers that have missed three heartbeats as offline, and forget those that have gone."""
        if self.is_standby or not 0 <= now - self._ticked_at <= _GAP_SECONDS:
            # Another monitor receives the events, this process was stopped, or the clock was set.
            for worker in self._workers.all():
                worker.last_seen = now
        self._ticked_at = now
        self._workers.update_queues_of_agents()
        for worker in self._workers.all():
            silence = now - worker.last_seen
            if worker.is_online and worker.frequency and silence > worker.silence_timeout:
                # Dated by its own clock, so that all monitors that received its last event report the same.
                self._report_offline(
                    worker, worker.last_timestamp + worker.silence_timeout, reason=f"no heartbeat for {silence:.0f} s"
                )
                self._report_lost(worker, f"its worker {worker.hostname} is lost: no heartbeat for {silence:.0f} s")
            elif not worker.is_online and silence > _FORGET_SECONDS and not worker.running:
                self._workers.remove(worker)

    # Handlers of events

    def _on_online(self, worker: TrackedWorker, event: Event) -> None:
        at = event_time(event, self._timers.now)
        if worker.is_online and worker.running and event.get("processed") == 0:
            # A container's process that was killed and restarted has the process id of the one before. A worker that
            # reconnects, or is made to send events, also sends that it is online, but not that it has run no task.
            self._report_lost(worker, f"its worker {worker.hostname} was restarted")
            self._inspections.restart(worker)
        for other in self._workers.namesakes(worker):
            # Its process was replaced before it was found missing, or before its own first event arrived.
            if other.may_be_online:
                other.is_online = False
                self._report_lost(other, f"its worker {worker.hostname} was restarted")
        self._update(worker, event, at)

    def _on_heartbeat(self, worker: TrackedWorker, event: Event) -> None:
        at = event_time(event, self._timers.now)
        self._update(worker, event, at)
        active = as_count(event.get("active"))
        if active is not None:
            self._update_load(worker, active, at)
        slot = int(at / self._heartbeat_interval) if self._heartbeat_interval else worker.heartbeat_slot
        if slot != worker.heartbeat_slot:
            worker.heartbeat_slot = slot
            self._emit_state(worker, WorkerState.HEARTBEAT, at, within=self._heartbeat_interval)

    def _on_offline(self, worker: TrackedWorker, event: Event) -> None:
        at = event_time(event, self._timers.now)
        was_online = worker.may_be_online
        self._update(worker, event, None)
        if was_online:
            self._report_offline(worker, at)

        def report_lost_runs() -> None:
            if worker.is_online:
                return
            # Some of their events may have arrived after this one: a solo worker sends those of its tasks last.
            begun = worker.remove_runs(lambda run: (run.started or 0.0) <= at)
            if not worker.has_agent:
                self._record_lost(begun, worker.last_seen, f"its worker {worker.hostname} has gone offline")

        self._timers.infer_after(_OFFLINE_SECONDS, report_lost_runs)

    def _update(self, worker: TrackedWorker, event: Event, online_at: float | None) -> None:
        frequency = as_seconds(event.get("freq"))
        if frequency and ("active" in event or worker.frequency is None):  # a reply to `heartbeat` names another one
            worker.frequency = frequency if "active" in event else USUAL_FREQUENCY
        version = get_text(event, "sw_ver")
        if version is not None:
            worker.software = intern(f"celery {version}")
        system = get_text(event, "sw_sys")
        if system is not None:
            worker.system = intern(system.lower())
        if version is not None:
            self._agent_discovery.learn_event(worker, event)
        if online_at is not None and not worker.is_online:
            worker.is_online, worker.idle_since = True, None
            self._inspections.restart(worker)
            self._workers.take_name(worker)
            self._emit_state(worker, WorkerState.ONLINE, online_at)

    def _update_load(self, worker: TrackedWorker, active: int, at: float) -> None:
        was_busy, worker.active = bool(worker.active), active
        if bool(active) is not was_busy:
            self._emit_state(worker, WorkerState.BUSY if active else WorkerState.IDLE, at, within=_LOAD_SECONDS)
        if active:
            worker.busy_at, worker.idle_since = at, None
            if worker.has_agent:
                worker.on_running_count(active, at)
        elif worker.idle_since is None:
            worker.idle_since = at
        elif worker.running and at - worker.idle_since >= _IDLE_SECONDS:
            idle_since = worker.idle_since
            ended = worker.remove_runs(lambda run: (run.started or 0.0) < idle_since)
            if not worker.has_agent:
                self._record_lost(ended, worker.busy_at, _NO_END_EVENT)

    def learn_running(self, worker: TrackedWorker, external_ids: set[str]) -> None:
        """Learn from the reply to `inspect active`: runs that it lacks have ended while events were missed.

        Of a worker that sends no events, they are always missed.
        """
        reason = "it ended, and its worker sends no events" if worker.sends_no_events else _ENDED_IN_GAP
        for external_id, run in list(worker.running.items()):
            may_miss_end = worker.sends_no_events or (run.started or 0.0) < self._events_complete_since
            if external_id in external_ids or not may_miss_end:
                continue

            def report(external_id: str = external_id, run: Run = run) -> None:
                if worker.remove_run(external_id) is run and not (worker.has_agent or self.is_standby):
                    self._record_lost({external_id: run}, self._timers.now, reason)

            self._timers.infer_after(_GAP_SECONDS, report)  # the event of its end may be on its way

    # Reports

    def _report_offline(self, worker: TrackedWorker, at: float, reason: str | None = None) -> None:
        """Report the worker as offline, unless another process has taken over its name."""
        worker.is_online, worker.active = False, 0
        if not any(other.is_online for other in self._workers.namesakes(worker)):
            self._emit_state(worker, WorkerState.OFFLINE, at, reason=reason)

    def _report_lost(self, worker: TrackedWorker, reason: str) -> None:
        """Report the runs of `worker` as lost: no event will report their ends."""
        self._record_lost(worker.remove_runs(), worker.last_seen, reason)

    def _record_lost(self, runs: Mapping[str, Run], at: float, reason: str) -> None:
        for external_id, run in runs.items():
            task = self._tasks.get(external_id)
            if task is not None:
                self._recorder.record_lost(task, run, at, reason)

    def _emit_state(
        self, worker: TrackedWorker, state: WorkerState, at: float, reason: str | None = None, **within: float
    ) -> None:
        if worker.has_agent and reason is None:
            return
        metadata: WorkerMetadata = {}
        if worker.pool is not None:
            metadata["pool"] = worker.pool
        if worker.software is not None:
            metadata["software"] = worker.software
        if worker.system is not None:
            metadata["system"] = worker.system
        if reason is not None:
            metadata["reason"] = reason
        self._sink.emit(
            worker_event(
                self._sink.connection_id,
                worker.hostname,
                worker.pid,
                state,
                at,
                metadata=metadata,
                activeJobs=worker.active,
                concurrency=worker.concurrency,
                queues=list(worker.queues) or None,
                **within,
            )
        )
