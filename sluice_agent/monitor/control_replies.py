"""What workers answer when they are asked: what they are, and which tasks they have, of which events may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from sys import intern
from typing import Any

from sluice_agent.model import JobState
from sluice_agent.monitor.bindings import Bindings
from sluice_agent.monitor.job_reporter import JobReporter
from sluice_agent.monitor.missing_jobs import MissingJobs
from sluice_agent.monitor.parsing import as_count, as_time, external_id_of, get_text
from sluice_agent.monitor.task_events import TaskEvents
from sluice_agent.monitor.task_store import PendingPublication, Run, Task
from sluice_agent.monitor.timers import Timers
from sluice_agent.monitor.tracked_worker import TrackedWorker
from sluice_agent.monitor.worker_events import WorkerEvents

_EVENT_SECONDS = 5.0  # seconds in which an event, which says more, may come of a task that an answer tells of
_MAX_NAMES = 10_000  # of tasks: more are made up
_LAST_QUESTION = "scheduled"  # of those that ask which tasks a worker has
_ACKS_LATE = {"[acks_late=True]": True, "[acks_late=False]": False}


class ControlReplies:
    """Learns from answers. An answer that comes while events wait to be read must not tell a task a second time."""

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

    def on_reply(self, worker: str, question: str, reply: Any) -> None:
        """The answer of `worker`: `question` is one of the inspector's QUESTIONS."""
        if question == "stats":
            if isinstance(reply, Mapping):
                self._worker_events.learn_stats(
                    self._worker_events.touch({"hostname": worker, "pid": reply.get("pid")}), reply
                )
            return
        view = self._worker_events.named(worker)
        if view is None or not isinstance(reply, list):
            return
        if question == "active_queues":
            names = {self._bindings.learn(queue) for queue in reply if isinstance(queue, Mapping)}
            view.queues = tuple(sorted(name for name in names if name))
            return
        if question == "registered":
            for name in (each for each in reply if isinstance(each, str)):
                self._learn_acks_late(name)
            return
        self._learn_tasks(view, question, [entry for entry in reply if isinstance(entry, Mapping)])

    def _learn_tasks(self, view: TrackedWorker, question: str, entries: list[Mapping[str, Any]]) -> None:
        """The tasks that a worker says that it has: `question` is how."""
        found = set()
        for entry in entries:
            request = entry.get("request") if question == "scheduled" else entry
            if isinstance(request, Mapping) and (external_id := external_id_of(request.get("id"))) is not None:
                found.add(external_id)
                self._missing_jobs.remove(external_id)
                self._learn_task(view, external_id, request, is_active=question == "active", eta=get_text(entry, "eta"))
        if question == "active":
            self._worker_events.learn_running(view, found)
        elif question == _LAST_QUESTION:
            view.answered_at = self._timers.now

    def _learn_acks_late(self, entry: str) -> None:
        """One task as a worker has it: ``"app.add [acks_late=True]"``."""
        name, _, about = entry.partition(" ")
        acks_late = _ACKS_LATE.get(about)
        if acks_late is not None and (
            name in self._task_events.acks_late or len(self._task_events.acks_late) < _MAX_NAMES
        ):
            self._task_events.acks_late[intern(name)] = acks_late

    def _learn_task(
        self, view: TrackedWorker, external_id: str, request: Mapping[str, Any], *, is_active: bool, eta: str | None
    ) -> None:
        task = self._task_events.store.get_or_create(external_id)
        delivery = request.get("delivery_info")
        delivery = delivery if isinstance(delivery, Mapping) else {}
        task.name = task.name or intern(get_text(request, "name") or "")
        task.queue = task.queue or self._bindings.queue_of(delivery) or view.only_queue
        task.is_queue_certain = task.is_queue_certain or self._bindings.is_sure_of(delivery)
        task.eta = task.eta or eta
        task.priority = as_count(delivery.get("priority")) if task.priority is None else task.priority
        runs = task.runs_of(view.process)
        if runs:
            run = runs[-1]
        else:
            run = task.add_run(view.process, redelivered=delivery.get("redelivered") is True)
            run.is_unconfirmed = True
            at = self._timers.now
            self._timers.call(_EVENT_SECONDS, lambda: self._report_unconfirmed(external_id, task, run, view, at))
        if not is_active:
            return
        started = as_time(request.get("time_start"), self._timers.now)
        if run.state is None and run.started is None:
            if started is not None and started >= (run.received or 0.0):  # else it is the attempt before that runs
                run.started = started
                if run.is_unconfirmed:  # it was with its worker before, and no event has said that it began
                    self._timers.call(
                        _EVENT_SECONDS, lambda: self._report_unconfirmed(external_id, task, run, view, started)
                    )
        elif run.state in (JobState.ACTIVE, JobState.UNKNOWN):  # it was told to be active: the same word once more
            run.state = JobState.ACTIVE
            view.running[external_id] = run

    def _report_unconfirmed(self, external_id: str, task: Task, run: Run, view: TrackedWorker, at: float) -> None:
        """No event has told of `run`: it began before we listened."""
        if not run.is_unconfirmed or run.state is not None or self._task_events.store.get(external_id) is not task:
            return
        if run.started is not None:
            self._task_events.start_run(external_id, task, run, view, run.started)
        elif task.attempt == 1:
            state = JobState.SCHEDULED if task.eta else JobState.QUEUED
            self._reporter.report_waiting(
                external_id, task, PendingPublication(at, task.name, state, 0, {}), view.process
            )
