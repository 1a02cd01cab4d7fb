"""Worker events in our model: online, heartbeat, busy, idle and offline, from a worker's events or its silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from sys import intern
from typing import Any

from sluice_agent.lifecycle.encoding import WorkerMetadata, pool_name, worker_event
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.model import WorkerState
from sluice_agent.monitor.tracker.agent_discovery import AgentDiscovery
from sluice_agent.monitor.tracker.parsing import Event, as_count, as_seconds, as_time, event_time, get_text
from sluice_agent.monitor.tracker.task_store import Process, Run
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.tracked_worker import USUAL_FREQUENCY, TrackedWorker, UnreportedEnds

_GAP_SECONDS = 5.0  # between two ticks: after a longer pause it may be this process that was silent
_OFFLINE_SECONDS = 15.0  # after `worker-offline`, in which the last event of a task may arrive
_FORGET_SECONDS = 60.0  # until a worker that has gone is forgotten
_LOAD_SECONDS = 1.0  # in which two reports of busy, or of idle, are one
_IDLE_SECONDS = 4.0  # in which no task ran: no event of an earlier run arrives after that
_NO_END_EVENT = "it ended, and no event reported how: Celery sends none for a task that raises Ignore"
_ENDED_IN_GAP = "it ended while the monitor had lost its connection"

OnLostRun = Callable[[str, Run, float, str], None]


class WorkerEvents:
    """Reports the workers' states. `on_lost_run` is called with a run whose worker has gone, or that ended unreported.

    It gets the time at which the run was last known to go on: a verdict that arrives after all is later, and corrects
    it. Events of a worker's jobs are held for `agent_seconds` while it is not known whether it has an agent.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        timers: Timers,
        heartbeat_interval: float,
        on_lost_run: OnLostRun,
        agent_seconds: float = 0.0,
    ) -> None:
        self._sink = sink
        self._timers = timers
        self._heartbeat_interval = heartbeat_interval
        self._on_lost_run = on_lost_run
        self._agent_discovery = AgentDiscovery(sink=sink, timers=timers, agent_seconds=agent_seconds)
        self._reported_queues: frozenset[str] = frozenset()
        self._workers: dict[tuple[str, int], TrackedWorker] = {}
        self._workers_by_name: dict[str, TrackedWorker] = {}
        self._queues_of_agents: set[str] = set()
        self._events_complete_since = 0.0
        self._ticked_at = 0.0
        self._is_standby = False
        self._due_for_discovery = False
        self.handlers: Mapping[str, Callable[[TrackedWorker, Event], None]] = {
            "worker-online": self._on_online,
            "worker-heartbeat": self._on_heartbeat,
            "worker-offline": self._on_offline,
        }

    def __len__(self) -> int:
        return len(self._workers)

    def touch(self, event: Event) -> TrackedWorker:
        """Return the worker process that sent `event`, which shows that it is alive."""
        hostname, pid = event.get("hostname"), event.get("pid")
        worker = self._workers.get((hostname, pid)) if isinstance(hostname, str) and isinstance(pid, int) else None
        if worker is None:
            process = Process(intern(get_text(event, "hostname") or "unknown"), as_count(event.get("pid")) or 0)
            now = self._timers.now
            worker = self._workers.setdefault(process, TrackedWorker(process, last_seen=now, last_timestamp=now))
            self._workers_by_name.setdefault(process.hostname, worker)
        worker.last_seen = self._timers.now
        worker.sends_no_events = worker.sends_no_events and "type" not in event
        worker.last_timestamp = as_time(event.get("timestamp"), self._timers.now) or worker.last_timestamp
        return worker

    def touch_run(self, run: Run) -> TrackedWorker:
        """Return the worker process of `run`, as `touch` does."""
        return self.touch(run.worker._asdict())

    def named(self, hostname: str) -> TrackedWorker | None:
        """Return the worker process that has this name at present, if any."""
        return self._workers_by_name.get(hostname)

    def online(self) -> Mapping[str, TrackedWorker]:
        """Return the workers that are online, by name."""
        return {name: worker for name, worker in self._workers_by_name.items() if worker.is_online}

    def due_for_inspection(self) -> list[str]:
        """Return the names of workers that are new or have returned since the last call, or that have not replied."""
        now = self._timers.now
        candidates = {id(worker): worker for worker in self._workers_by_name.values() if worker.may_be_online}
        candidates |= {id(worker): worker for worker in self._workers.values() if worker.has_agent is None}
        due = [worker for worker in candidates.values() if worker.is_due_for_inspection(now)]
        for worker in due:
            worker.is_inspected, worker.inspected_at = True, now
            worker.times_inspected += 1
        return [worker.hostname for worker in due]

    def inspect_again(self) -> None:
        """Request an inspection of all workers, unknown ones included: see `due_for_discovery`."""
        self._due_for_discovery = True
        for worker in self._workers_by_name.values():
            worker.is_inspected = False

    def due_for_discovery(self) -> bool:
        """Return whether to inspect unknown workers too, once for a request: a worker may send no events at all."""
        is_due, self._due_for_discovery = self._due_for_discovery, False
        return is_due

    def have_replied(self, since: float) -> bool:
        """Return whether all workers online have listed their tasks since then, except those that never reply."""
        return all(worker.replied_at >= since or worker.never_replies for worker in self.online().values())

    def may_be_reported(self, queue: str) -> bool:
        """Return whether a worker's agent may report the jobs of this queue, even if the worker sends no events."""
        any_queue = any(worker.has_agent and not worker.queues for worker in self.online().values())  # not known which
        return any_queue or queue in self._queues_of_agents

    @property
    def is_standby(self) -> bool:
        """True if another monitor receives the events in place of this one."""
        return self._is_standby

    def on_run_ended(self, external_id: str, run: Run, at: float = 0.0) -> None:
        """Record that `run` has ended, at `at` if an event reports it."""
        worker = self._workers.get(run.worker)
        if worker is None:
            return
        _discard(worker, external_id, run)
        if worker.unreported_ends is not None:
            worker.unreported_ends.on_run_ended(external_id, run, at)
            if worker.unreported_ends.is_resolved:
                for ended_id, ended_run in worker.unreported_ends.ended.items():
                    _discard(worker, ended_id, ended_run)
                worker.unreported_ends = None

    def on_reconnect(self, now: float) -> None:
        """Count no heartbeat as missed, and inspect all workers again: events may be missing up to `now`."""
        self._events_complete_since = now
        for worker in self._workers.values():
            worker.last_seen = max(worker.last_seen, now)
            worker.idle_since = None
            worker.is_inspected, worker.times_inspected = False, 0

    def enter_standby(self) -> None:
        """Go on standby: another monitor may receive the events in place of this one."""
        self._is_standby = True

    def on_takeover(self, now: float) -> None:
        """End the standby: the other monitor has reported ended runs; workers list those that go on when inspected."""
        if self._is_standby and now - self._events_complete_since > _GAP_SECONDS:
            for worker in self._workers.values():
                worker.running.clear()
        self._is_standby = False

    def tick(self, now: float) -> None:
        """Report workers that have missed three heartbeats as offline, and forget those that have gone."""
        if self._is_standby or not 0 <= now - self._ticked_at <= _GAP_SECONDS:
            # Another monitor receives the events, this process was stopped, or the clock was set.
            for worker in self._workers.values():
                worker.last_seen = now
        self._ticked_at = now
        self._reported_queues = frozenset(
            queue
            for worker in self._workers.values()
            if worker.has_agent and worker.may_be_online
            for queue in worker.queues
        )
        self._queues_of_agents |= self._reported_queues
        for worker in list(self._workers.values()):
            silence = now - worker.last_seen
            if worker.is_online and worker.frequency and silence > worker.silence_timeout:
                # Dated by its own clock, so that all monitors that received its last event report the same.
                self._report_offline(
                    worker, worker.last_timestamp + worker.silence_timeout, reason=f"no heartbeat for {silence:.0f} s"
                )
                self._report_lost(worker, f"its worker {worker.hostname} is lost: no heartbeat for {silence:.0f} s")
            elif not worker.is_online and silence > _FORGET_SECONDS and not worker.running:
                del self._workers[worker.process]
                if self._workers_by_name.get(worker.hostname) is worker:
                    del self._workers_by_name[worker.hostname]

    # Handlers of events

    def _on_online(self, worker: TrackedWorker, event: Event) -> None:
        at = event_time(event, self._timers.now)
        if worker.is_online and worker.running and event.get("processed") == 0:
            # A container's process that was killed and restarted has the process id of the one before. A worker that
            # reconnects, or is made to send events, also sends that it is online, but not that it has run no task.
            self._report_lost(worker, f"its worker {worker.hostname} was restarted")
            worker.is_inspected, worker.times_inspected = False, 0
        for other in self._namesakes(worker):
            # Its process was replaced before it was found missing, or before its own first event arrived.
            if other.is_online or other.frequency is None:
                other.is_online = False
                self._report_lost(other, f"its worker {worker.hostname} was restarted")
        self._update(worker, event, at)

    def _on_heartbeat(self, worker: TrackedWorker, event: Event) -> None:
        at = event_time(event, self._timers.now)
        self._update(worker, event, at)
        active = as_count(event.get("active"))
        if active is not None:
            worker.active = active
            self._update_load(worker, active, at)
        slot = int(at / self._heartbeat_interval) if self._heartbeat_interval else worker.heartbeat_slot
        if slot != worker.heartbeat_slot:
            worker.heartbeat_slot = slot
            self._emit_state(worker, WorkerState.HEARTBEAT, at, within=self._heartbeat_interval)

    def _on_offline(self, worker: TrackedWorker, event: Event) -> None:
        at = event_time(event, self._timers.now)
        was_online = worker.is_online or worker.frequency is None
        self._update(worker, event, None)
        if was_online:
            self._report_offline(worker, at)

        def report_lost_runs() -> None:
            if worker.is_online:
                return
            # Some of their events may have arrived after this one: a solo worker sends those of its tasks last.
            begun = [(key, run) for key, run in worker.running.items() if (run.started or 0.0) <= at]
            for external_id, run in begun:
                del worker.running[external_id]
                if not worker.has_agent:
                    self._on_lost_run(
                        external_id, run, worker.last_seen, f"its worker {worker.hostname} has gone offline"
                    )

        self._timers.call(_OFFLINE_SECONDS, report_lost_runs)

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
            worker.is_online, worker.is_inspected, worker.times_inspected = True, False, 0
            worker.idle_since = None
            self._workers_by_name[worker.hostname] = worker
            self._emit_state(worker, WorkerState.ONLINE, online_at)

    def _update_load(self, worker: TrackedWorker, active: int, at: float) -> None:
        if bool(active) is not worker.is_busy:
            worker.is_busy = bool(active)
            self._emit_state(worker, WorkerState.BUSY if active else WorkerState.IDLE, at, within=_LOAD_SECONDS)
        if active:
            worker.busy_at, worker.idle_since = at, None
            if worker.has_agent and worker.unreported_ends is None and len(worker.running) > active:
                began = {key: run for key, run in worker.running.items() if (run.started or 0.0) <= at}
                unreported_ends = UnreportedEnds(at, active, began)
                worker.unreported_ends = None if unreported_ends.is_resolved else unreported_ends
        elif worker.idle_since is None:
            worker.idle_since = at
        elif worker.running and at - worker.idle_since >= _IDLE_SECONDS:
            ended = [(key, run) for key, run in worker.running.items() if (run.started or 0.0) < worker.idle_since]
            for external_id, run in ended:
                del worker.running[external_id]
                if not worker.has_agent:
                    self._on_lost_run(external_id, run, worker.busy_at, _NO_END_EVENT)

    # Inspect replies

    def learn_stats(self, worker: TrackedWorker, reply: Mapping[str, Any]) -> None:
        """Learn from the reply to `inspect stats`."""
        pool = reply.get("pool")
        if isinstance(pool, Mapping):
            module = (get_text(pool, "implementation") or "").partition(":")[0]
            worker.pool = intern(pool_name(module)) or None
            worker.concurrency = as_count(pool.get("max-concurrency"))
        self._agent_discovery.learn_reply(worker, reply)

    def emit_for(self, process: Process) -> Callable[[bytes], None] | None:
        """Return the sink for events of this worker process's jobs; None where its agent emits them."""
        worker = self._workers.get(process)
        return self._sink.emit if worker is None else self._agent_discovery.emit_for(worker)

    def is_reported(self, queue: str | None) -> bool:
        """Return whether a worker whose agent reports receipts consumes `queue`."""
        return queue in self._reported_queues

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
                if worker.running.pop(external_id, None) is run and not (worker.has_agent or self._is_standby):
                    self._on_lost_run(external_id, run, self._timers.now, reason)

            self._timers.call(_GAP_SECONDS, report)  # the event of its end may be on its way

    # Reports

    def _namesakes(self, worker: TrackedWorker) -> list[TrackedWorker]:
        current = self._workers_by_name.get(worker.hostname)
        if current is None or current is worker:
            return []
        return [other for other in self._workers.values() if other.hostname == worker.hostname and other is not worker]

    def _report_offline(self, worker: TrackedWorker, at: float, reason: str | None = None) -> None:
        """Report the worker as offline, unless another process has taken over its name."""
        worker.is_online = worker.is_busy = False
        worker.active = 0
        if not any(other.is_online for other in self._namesakes(worker)):
            self._emit_state(worker, WorkerState.OFFLINE, at, reason=reason)

    def _report_lost(self, worker: TrackedWorker, reason: str) -> None:
        """Pass the runs of `worker` on as lost: no event will report their ends."""
        runs, worker.running = worker.running, {}
        for external_id, run in runs.items():
            self._on_lost_run(external_id, run, worker.last_seen, reason)

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


def _discard(worker: TrackedWorker, external_id: str, run: Run) -> None:
    if worker.running.get(external_id) is run:
        del worker.running[external_id]
