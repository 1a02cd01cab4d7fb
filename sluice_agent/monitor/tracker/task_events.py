"""Task events in our model: every transition of a job is reported once, from events that repeat and overtake others.

Where Celery's events and its signals show the same transition, this module reports the same fields and the same id as
`signals`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import RunDetails
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_from_iso
from sluice_agent.model import JobState
from sluice_agent.monitor.tracker.parsing import (
    Event,
    as_seconds,
    attempt_of,
    cause_of,
    error_of,
    event_time,
    external_id_of,
)
from sluice_agent.monitor.tracker.publications import Publications, is_another_publication
from sluice_agent.monitor.tracker.recorder import Recorder
from sluice_agent.monitor.tracker.registered_tasks import RegisteredTasks
from sluice_agent.monitor.tracker.task_store import TaskStore
from sluice_agent.monitor.tracker.tasks import ACTIVE, UNKNOWN, Run, Task
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.worker_store import TrackedWorker, WorkerStore

_SENT = "task-sent"
_RECEIVED = "task-received"
_REJECTION_SECONDS = 2.0  # a failure, which has more detail, may follow a rejection
_CUT_OFF_SECONDS = 2.0  # a run that a shutdown cuts off may have just ended: the pool reports that as it stops
_MAYBE_CUT_OFF = "cut off when its worker was stopped or lost its broker; it runs again if it is acknowledged late"


class TaskEvents:
    """Finds the run that each event of a task is for, and passes its transition to the recorder.

    The time is that of `timers`, which the tracker sets.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        recorder: Recorder,
        publications: Publications,
        tasks: TaskStore,
        workers: WorkerStore,
        registered_tasks: RegisteredTasks,
        timers: Timers,
    ) -> None:
        self._sink = sink
        self._recorder = recorder
        self._publications = publications
        self._tasks = tasks
        self._workers = workers
        self._registered_tasks = registered_tasks
        self._timers = timers
        self._handlers: Mapping[str, Callable[[Task, TrackedWorker, Event, float], None]] = {
            _RECEIVED: self._on_received,
            "task-started": self._on_started,
            "task-succeeded": self._on_succeeded,
            "task-failed": self._on_failed,
            "task-retried": self._on_retried,
            "task-revoked": self._on_revoked,
            "task-rejected": self._on_rejected,
            "task-cancelled": self._on_cancelled,
        }
        self.kinds = frozenset({_SENT, *self._handlers})
        """The types of the events that `take` processes."""

    def take(self, kind: str, event: Event) -> None:
        """Process an event of a task. Raises ValueError where it names none."""
        external_id = event.get("uuid")
        if type(external_id) is not str or not external_id:
            external_id = external_id_of(external_id)
            if external_id is None:
                raise ValueError("it names no job")
        task = self._tasks.recall(external_id)
        if task is None:
            task = self._tasks.add(external_id)
            if kind == _RECEIVED:
                worker, at = self._workers.touch(event)
                if not self._publications.on_plain_receipt(task, event, worker, at):
                    self._on_received(task, worker, event, at)
                return
        if kind == _SENT:  # by its producer; all others are sent by workers
            self._on_sent(task, event)
            return
        worker, at = self._workers.touch(event)
        pending = task.pending
        if pending is not None:
            self._publications.on_worker_event(task, pending, worker, at)
        self._handlers[kind](task, worker, event, at)

    # Handlers of events

    def _on_sent(self, task: Task, event: Event) -> None:
        if task.is_over and is_another_publication(task, event):
            task = self._tasks.renew(task, attempt_of(event), event_time(event, self._timers.now))
        self._publications.on_published(task, event)

    def _on_received(self, task: Task, worker: TrackedWorker, event: Event, at: float) -> None:
        self._publications.on_received(task, event, worker, at)
        if task.last_run is None:  # as of nearly all tasks
            task.add_run(worker.process).confirm_receipt(task, at)
            return
        self._recorder.end_replaced(task)
        run = task.unconfirmed_run_of(worker.process, at) or task.add_run(worker.process)
        if task.attempt > 1:
            for other in task.runs:  # a run whose receipt was missed asked for this attempt
                if other.has_begun and other.received is None and other.replacement == task.replacement:
                    other.attempt, other.is_attempt_known = max(other.attempt, task.attempt - 1), True
        run.confirm_receipt(task, at)

    def _on_started(self, task: Task, worker: TrackedWorker, _: Event, at: float) -> None:
        if self._recorder.record_plain_start(task, worker, at):
            return
        runs = task.runs_of(worker.process)
        waiting = [run for run in runs if run.state is None]
        if len(waiting) > 1:
            waiting.sort(key=lambda run: run.has_begun)
        run = waiting[0] if waiting else None
        if run is None:
            if any(run.state is ACTIVE for run in runs):
                return  # a prefork process died before the pool recorded that it had the job; the next process got it
            run = task.add_run(worker.process)
        run.is_unconfirmed = False
        self._recorder.record(task, run, transitions.STARTED, at)

    def _on_succeeded(self, task: Task, worker: TrackedWorker, event: Event, at: float) -> None:
        runtime = as_seconds(event.get("runtime"))
        if runtime is not None and self._recorder.record_plain_success(task, worker, at, runtime):
            return
        run = self._run_that_ends(task, worker)
        if event.get("runtime", ...) is None and not isinstance(event.get("result"), str):
            # A greenlet was killed: Celery has acknowledged its message. The stored result of a process that was then
            # lost has no runtime either.
            self._recorder.record(task, run, transitions.CUT_OFF, at, reason=transitions.CUT_OFF_REASON)
            return
        if run.started is None and runtime is not None:
            run.assume_start(at - runtime)
        elif run.started is not None and at < run.started:  # its worker's clock was set back meanwhile
            at = run.started + (runtime or 0.0)
        details: RunDetails = {"runtime": runtime}
        if self._sink.redact is not None:
            details["result"] = self._sink.redact("result", event.get("result"))
        self._recorder.record(task, run, transitions.SUCCEEDED, at, **details)

    def _on_failed(self, task: Task, worker: TrackedWorker, event: Event, at: float) -> None:
        error, stacktrace = error_of(event)
        is_rejected = error.startswith("Reject:") or error == "Reject"
        if error.startswith("NotRegistered") and not task.runs_of(worker.process):
            task.fill_in(name=error.partition(": ")[2])
            error = f"NotRegistered: {task.name!r}"
            self._publications.on_refused(task, worker, transitions.FAILED, at, error=error)
            return
        run = self._run_that_ends(task, worker)
        transition = transitions.REJECTED if is_rejected else transitions.FAILED
        self._recorder.record(task, run, transition, at, error=error, stacktrace=stacktrace)

    def _on_retried(self, task: Task, worker: TrackedWorker, event: Event, at: float) -> None:
        error, stacktrace = cause_of(event)
        run = self._run_that_is_retried(task, worker, at)
        # The next attempt is published, and perhaps received, before the event that this one is retried.
        following = [other.received for other in task.runs if other.attempt == run.attempt + 1 and other.received]
        at = min(at, *(received for received in following if received > (run.started or 0.0)), inf)
        if run.replacement == task.replacement:
            task.expect_attempt(run.attempt + 1)
        eta = timestamp_from_iso(task.eta) if following else None
        self._recorder.record(task, run, transitions.RETRIED, at, error=error, stacktrace=stacktrace, eta=eta)

    def _on_revoked(self, task: Task, worker: TrackedWorker, event: Event, at: float) -> None:
        signum = event.get("signum")
        details: RunDetails = {
            "terminated": event.get("terminated") is True or None,
            "signum": str(signum) if isinstance(signum, (int, str)) else None,
            "expired": event.get("expired") is True or None,
        }
        runs = task.runs_of(worker.process)
        live = [run for run in runs if run.is_live]
        if live:
            self._recorder.record(task, live[-1], transitions.REVOKED, at, **details)
        elif not runs or runs[-1].state is not JobState.CANCELLED:
            # It was refused before it was received.
            self._publications.on_refused(task, worker, transitions.REVOKED, at, **details)

    def _on_rejected(self, task: Task, worker: TrackedWorker, event: Event, at: float) -> None:
        run = self._run_that_ends(task, worker)
        if event.get("requeue") is True:
            if run.state is not JobState.QUEUED:
                self._recorder.suspend(task, worker)
                self._recorder.record(task, run, transitions.REQUEUED, at, requeued=True)
        elif run.is_live:

            def report() -> None:
                self._recorder.record(task, run, transitions.REJECTED, at, error="Reject")

            self._timers.report_after(_REJECTION_SECONDS, report)

    def _on_cancelled(self, task: Task, worker: TrackedWorker, _: Event, at: float) -> None:
        run = self._run_that_ends(task, worker)
        self._recorder.suspend(task, worker)
        self._timers.report_after(_CUT_OFF_SECONDS, lambda: self._report_cut_off(task, run, at))

    # Runs

    def _run_that_ends(self, task: Task, worker: TrackedWorker) -> Run:
        """Return the run that an end from `worker` is for: an active one, else one that is to begin, else the last."""
        runs = task.runs_of(worker.process)
        if len(runs) == 1:
            return runs[0]
        for states in ((ACTIVE, UNKNOWN), (None,)):
            live = [run for run in runs if run.state in states]
            if live:
                return max(live, key=lambda run: run.order)  # the first of equal ones
        return runs[-1] if runs else task.add_run(worker.process)

    def _run_that_is_retried(self, task: Task, worker: TrackedWorker, at: float) -> Run:
        """Return the earliest run of `worker` that is under way: the next attempt may run, or be received, by now.

        If only that attempt is known, insert the run that asked for it: its own events were missed.
        """
        runs = task.runs_of(worker.process)
        active = [run for run in runs if run.has_begun and (run.state is not None or (run.started or 0.0) <= at)]
        if active:
            return min(active, key=lambda run: run.order)
        run = self._run_that_ends(task, worker)
        is_next = run.state is None and (run.has_begun or (run.received is not None and run.attempt > 1))
        is_known = any(other.order == (run.replacement, run.attempt - 1) for other in task.runs)
        return task.insert_previous_run(run) if is_next and not is_known else run

    def _report_cut_off(self, task: Task, run: Run, at: float) -> None:
        """Report that `run` was cut off, unless it had ended: it runs again if it is acknowledged late."""
        if not run.is_live:
            return
        acks_late = self._registered_tasks.is_acked_late(task.name)
        if acks_late is None:
            self._recorder.record(task, run, transitions.LOST_BY_CANCEL, at, reason=_MAYBE_CUT_OFF)
        elif acks_late:
            self._recorder.record(task, run, transitions.RETURNED_BY_CANCEL, at, requeued=True)
        else:
            self._recorder.record(task, run, transitions.CUT_OFF_BY_CANCEL, at, reason=transitions.CUT_OFF_REASON)
