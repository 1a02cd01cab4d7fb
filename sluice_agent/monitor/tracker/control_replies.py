"""Workers' inspect replies: what they are, and which tasks they have, whose events may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from sys import intern
from typing import Any

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.timestamps import timestamp_from_iso
from sluice_agent.model import JobState
from sluice_agent.monitor.tracker.bindings import Bindings
from sluice_agent.monitor.tracker.job_reporter import JobReporter
from sluice_agent.monitor.tracker.missing_jobs import MissingJobs
from sluice_agent.monitor.tracker.parsing import as_count, as_time, external_id_of, get_text
from sluice_agent.monitor.tracker.task_events import TaskEvents
from sluice_agent.monitor.tracker.task_store import PendingPublication, Run, Task
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.tracked_worker import TrackedWorker
from sluice_agent.monitor.tracker.worker_events import WorkerEvents

_EVENT_SECONDS = 5.0  # in which an event, which has more detail, may arrive of a task in a reply
_MAX_NAMES = 10_000  # of tasks: a cluster with more does not exist
_LAST_COMMAND = "scheduled"  # of those whose replies list a worker's tasks
_ACKS_LATE = {"[acks_late=True]": True, "[acks_late=False]": False}


class ControlReplies:
    """Learns from replies. A reply that arrives while events wait to be read must not report a task a second time."""

    def __init__(
        self,
        *,
        task_events: TaskEvents,
        workers: WorkerEvents,
        reporter: JobReporter,
        bindings: Bindings,
        timers: Timers,
        missing_jobs: MissingJobs,
    ) -> None:
        self._task_events = task_events
        self._worker_events = workers
        self._reporter = reporter
        self._bindings = bindings
        self._timers = timers
        self._missing_jobs = missing_jobs

    def on_reply(self, hostname: str, command: str, reply: Any) -> None:
        """Process a reply of the worker `hostname`: `command` is one of INSPECT_COMMANDS."""
        if command == "stats":
            if isinstance(reply, Mapping):
                self._worker_events.learn_stats(
                    self._worker_events.touch({"hostname": hostname, "pid": reply.get("pid")}), reply
                )
            return
        worker = self._worker_events.named(hostname)
        if worker is None or not isinstance(reply, list):
            return
        if command == "active_queues":
            names = {self._bindings.learn(queue) for queue in reply if isinstance(queue, Mapping)}
            worker.queues = tuple(sorted(name for name in names if name))
            return
        if command == "registered":
            for entry in reply:
                if isinstance(entry, str):
                    self._learn_acks_late(entry)
            return
        self._learn_tasks(worker, command, [entry for entry in reply if isinstance(entry, Mapping)])

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

    def _learn_acks_late(self, entry: str) -> None:
        """Learn from a registered task, such as ``"app.add [acks_late=True]"``."""
        name, _, attributes = entry.partition(" ")
        acks_late = _ACKS_LATE.get(attributes)
        if acks_late is not None and (
            name in self._task_events.acks_late or len(self._task_events.acks_late) < _MAX_NAMES
        ):
            self._task_events.acks_late[intern(name)] = acks_late

    def _learn_task(
        self, worker: TrackedWorker, external_id: str, request: Mapping[str, Any], *, is_active: bool, eta: str | None
    ) -> None:
        task = self._task_events.store.get_or_create(external_id)
        delivery = request.get("delivery_info")
        delivery = delivery if isinstance(delivery, Mapping) else {}
        task.name = task.name or intern(get_text(request, "name") or "")
        task.queue = task.queue or self._bindings.queue_of(delivery) or worker.only_queue
        task.is_queue_certain = task.is_queue_certain or self._bindings.is_sure_of(delivery)
        task.eta = task.eta or eta
        task.priority = as_count(delivery.get("priority")) if task.priority is None else task.priority
        runs = task.runs_of(worker.process)
        if runs:
            run = runs[-1]
        else:
            run = task.add_run(worker.process, redelivered=delivery.get("redelivered") is True)
            run.is_unconfirmed = True
            at = self._timers.now
            report = partial(self._report_unconfirmed, external_id, task, run, worker, at)
            self._timers.call(_EVENT_SECONDS, report)
        if not is_active:
            return
        started = as_time(request.get("time_start"), self._timers.now)
        if run.state is None and run.started is None:
            if started is not None and started >= (run.received or 0.0):  # else the previous attempt runs
                run.started = started
                if run.is_unconfirmed:  # its worker had it before, and no event has reported its start
                    report = partial(self._report_unconfirmed, external_id, task, run, worker, started)
                    self._timers.call(_EVENT_SECONDS, report)
        elif run.state in (JobState.ACTIVE, JobState.UNKNOWN):  # it was reported as active before: nothing is new
            run.state = JobState.ACTIVE
            worker.running[external_id] = run

    def _report_unconfirmed(self, external_id: str, task: Task, run: Run, worker: TrackedWorker, at: float) -> None:
        """Report `run`, if no event has confirmed it by now: its events were sent before the monitor started."""
        if not run.is_unconfirmed or run.state is not None or self._task_events.store.get(external_id) is not task:
            return
        if run.started is not None:
            self._task_events.start_run(external_id, task, run, worker, run.started)
        elif task.attempt == 1:
            transition = transitions.waiting(timestamp_from_iso(task.eta))
            self._reporter.report_waiting(
                external_id, task, PendingPublication(at, task.name, transition, 0, {}), worker.process
            )
