"""Workers' inspect replies: what they are, and which tasks they have, whose events may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from sys import intern
from typing import Any

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import pool_name
from sluice_agent.lifecycle.timestamps import timestamp_from_iso
from sluice_agent.monitor.tracker.agent_discovery import AgentDiscovery
from sluice_agent.monitor.tracker.bindings import Bindings
from sluice_agent.monitor.tracker.missing_jobs import MissingJobs
from sluice_agent.monitor.tracker.parsing import as_count, as_time, external_id_of, get_text
from sluice_agent.monitor.tracker.recorder import Recorder
from sluice_agent.monitor.tracker.registered_tasks import RegisteredTasks
from sluice_agent.monitor.tracker.task_store import TaskStore
from sluice_agent.monitor.tracker.tasks import Publication, Run, Task, message_version
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.worker_events import WorkerEvents
from sluice_agent.monitor.tracker.worker_store import TrackedWorker, WorkerStore

_EVENT_SECONDS = 5.0  # in which an event, which has more detail, may arrive of a task in a reply
_LAST_COMMAND = "scheduled"  # of those whose replies list a worker's tasks


class ControlReplies:
    """Learns from replies. A reply that arrives while events wait to be read must not report a task a second time."""

    def __init__(
        self,
        *,
        recorder: Recorder,
        tasks: TaskStore,
        workers: WorkerStore,
        worker_events: WorkerEvents,
        agent_discovery: AgentDiscovery,
        registered_tasks: RegisteredTasks,
        missing_jobs: MissingJobs,
        bindings: Bindings,
        timers: Timers,
    ) -> None:
        self._recorder = recorder
        self._tasks = tasks
        self._workers = workers
        self._worker_events = worker_events
        self._agent_discovery = agent_discovery
        self._registered_tasks = registered_tasks
        self._missing_jobs = missing_jobs
        self._bindings = bindings
        self._timers = timers

    def on_reply(self, hostname: str, command: str, reply: Any) -> None:
        """Process a reply of the worker `hostname`: `command` is one of INSPECT_COMMANDS."""
        if command == "stats":
            if isinstance(reply, Mapping):
                touched, _ = self._workers.touch({"hostname": hostname, "pid": reply.get("pid")})
                self._learn_stats(touched, reply)
            return
        worker = self._workers.named(hostname)
        if worker is None or not isinstance(reply, list):
            return
        mappings = [entry for entry in reply if isinstance(entry, Mapping)]
        if command == "registered":
            self._registered_tasks.learn(reply)
        elif command == "active_queues":
            names = {self._bindings.learn(queue) for queue in mappings}
            worker.queues = tuple(sorted(name for name in names if name))
        else:
            self._learn_tasks(worker, command, mappings)

    def _learn_tasks(self, worker: TrackedWorker, command: str, entries: list[Mapping[str, Any]]) -> None:
        """Learn the tasks that a worker has, as the reply to `command` lists them."""
        external_ids = set()
        for entry in entries:
            request = entry.get("request") if command == "scheduled" else entry
            if isinstance(request, Mapping) and (external_id := external_id_of(request.get("id"))) is not None:
                external_ids.add(external_id)
                self._missing_jobs.remove(external_id)
                eta = get_text(entry, "eta")
                self._learn_task(worker, external_id, request, is_active=command == "active", eta=eta)
        if command == "active":
            self._worker_events.learn_running(worker, external_ids)
        elif command == _LAST_COMMAND:
            worker.replied_at = self._timers.now

    def _learn_stats(self, worker: TrackedWorker, reply: Mapping[str, Any]) -> None:
        pool = reply.get("pool")
        if isinstance(pool, Mapping):
            module = (get_text(pool, "implementation") or "").partition(":")[0]
            worker.pool = intern(pool_name(module)) or None
            worker.concurrency = as_count(pool.get("max-concurrency"))
        self._agent_discovery.learn_reply(worker, reply)

    def _learn_task(
        self, worker: TrackedWorker, external_id: str, request: Mapping[str, Any], *, is_active: bool, eta: str | None
    ) -> None:
        task = self._tasks.get_or_create(external_id)
        delivery = request.get("delivery_info")
        delivery = delivery if isinstance(delivery, Mapping) else {}
        task.fill_in(
            name=get_text(request, "name"),
            queue=task.queue or self._bindings.learn_queue_of(delivery) or worker.only_queue,
            is_queue_certain=self._bindings.is_sure_of(delivery),
            eta=eta,
            priority=as_count(delivery.get("priority")),
        )
        runs = task.runs_of(worker.process)
        if runs:
            run = runs[-1]
        else:
            run = task.add_unconfirmed_run(worker.process, redelivered=delivery.get("redelivered") is True)
            report = partial(self._report_unconfirmed, task, run, worker, self._timers.now)
            self._timers.infer_after(_EVENT_SECONDS, report)
        if not is_active:
            return
        started = as_time(request.get("time_start"), self._timers.now)
        if run.state is None and run.started is None:
            if started is not None and started >= (run.received or 0.0):  # else the previous attempt runs
                run.assume_start(started)
                if run.is_unconfirmed:  # its worker had it before, and no event has reported its start
                    report = partial(self._report_unconfirmed, task, run, worker, started)
                    self._timers.infer_after(_EVENT_SECONDS, report)
        else:
            self._recorder.resume(task, run, worker)

    def _report_unconfirmed(self, task: Task, run: Run, worker: TrackedWorker, at: float) -> None:
        """Report `run`, if no event has confirmed it by now: its events were sent before the monitor started."""
        if not run.is_unconfirmed or run.state is not None or self._tasks.get(task.external_id) is not task:
            return
        if run.started is not None:
            self._recorder.record(task, run, transitions.STARTED, run.started)
        elif task.attempt == 1:
            transition = transitions.waiting(timestamp_from_iso(task.eta))
            publication = Publication(message_version(0, 1), at, task.name, transition, {})
            self._recorder.record_waiting(task, publication, worker)
