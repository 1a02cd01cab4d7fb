"""Task events in our model: every transition of a job is reported once, from events that repeat and overtake others.

Where Celery's events and its signals show the same transition, this module reports the same fields and the same id as
`signals`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import RunDetails
from sluice_agent.lifecycle.timestamps import timestamp, timestamp_from_iso
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.model import JobState
from sluice_agent.monitor.tracker.bindings import Bindings
from sluice_agent.monitor.tracker.job_reporter import JobReporter
from sluice_agent.monitor.tracker.parsing import Event, as_seconds, attempt_of, cause_of, error_of, event_time
from sluice_agent.monitor.tracker.publications import Publications, is_another_publication
from sluice_agent.monitor.tracker.task_store import Run, Task, TaskStore
from sluice_agent.monitor.tracker.timers import Timers
from sluice_agent.monitor.tracker.tracked_worker import TrackedWorker
from sluice_agent.monitor.tracker.worker_events import WorkerEvents

if TYPE_CHECKING:
    from typing_extensions import Unpack

_REJECTION_SECONDS = 2.0  # a failure, which has more detail, may follow a rejection
_CUT_OFF_SECONDS = 2.0  # a run that a shutdown cuts off may have just ended: the pool reports that as it stops
_CORRECTIONS = (
    (JobState.COMPLETED, JobState.FAILED),
    (JobState.RETRYING, JobState.COMPLETED),  # the previous attempt was retried: no event had reported its start
)
_ATTEMPT_ENDS = (JobState.COMPLETED, JobState.FAILED, JobState.RETRYING)
"""The states in which a run ends by itself."""
_MAYBE_CUT_OFF = "cut off when its worker was stopped or lost its broker; it runs again if it is acknowledged late"


class TaskEvents:
    """Reports the transitions of every task that events name. The time is that of `timers`, which the tracker sets."""

    def __init__(
        self,
        *,
        connection_id: str,
        reporter: JobReporter,
        remember: int,
        bindings: Bindings,
        workers: WorkerEvents,
        timers: Timers,
    ) -> None:
        self._reporter = reporter
        self._publications = Publications(
            connection_id=connection_id,
            reporter=reporter,
            bindings=bindings,
            timers=timers,
            is_reported=workers.is_reported,
        )
        self._worker_events = workers
        self._timers = timers
        self.store = TaskStore(remember, self._forget)
        self.acks_late: dict[str, bool] = {}
        """By the name of a task: whether it is acknowledged after it has run, as a worker has reported."""
        self.handlers: Mapping[str, Callable[[str, Event], None]] = {
            "task-sent": self._on_sent,
            "task-received": self._on_received,
            "task-started": self._on_started,
            "task-succeeded": self._on_succeeded,
            "task-failed": self._on_failed,
            "task-retried": self._on_retried,
            "task-revoked": self._on_revoked,
            "task-rejected": self._on_rejected,
            "task-cancelled": self._on_cancelled,
        }

    # Handlers of events

    def _on_sent(self, external_id: str, event: Event) -> None:
        task = self.store.get_or_create(external_id)
        if task.is_over and is_another_publication(task, event):
            task = self.store.renew(external_id, attempt_of(event), event_time(event, self._timers.now))
        self._publications.on_published(external_id, task, event)

    def _on_received(self, external_id: str, event: Event) -> None:
        task, worker, at = self._receive(external_id, event)
        self._publications.on_received(external_id, task, event, worker, at)
        self._end_replaced_runs(external_id, task)
        run = task.unconfirmed_run_of(worker.process, at) or task.add_run(worker.process)
        if task.attempt > 1:
            for other in task.runs:  # a run whose receipt was missed asked for this attempt
                if other.has_begun and other.received is None and other.replacement == task.replacement:
                    other.attempt, other.is_attempt_known = max(other.attempt, task.attempt - 1), True
        run.attempt, run.replacement, run.received, run.is_unconfirmed = task.attempt, task.replacement, at, False
        run.task_name, run.is_attempt_known = task.name, True

    def _on_started(self, external_id: str, event: Event) -> None:
        task, worker, at = self._receive(external_id, event)
        runs = task.runs_of(worker.process)
        waiting = [run for run in runs if run.state is None]
        run = next((run for run in waiting if not run.has_begun), waiting[0] if waiting else None)
        if run is None:
            if any(run.state is JobState.ACTIVE for run in runs):
                return  # a prefork process died before the pool recorded that it had the job; the next process got it
            run = task.add_run(worker.process)
        run.is_unconfirmed = False
        self.start_run(external_id, task, run, worker, at)

    def _on_succeeded(self, external_id: str, event: Event) -> None:
        runtime = as_seconds(event.get("runtime"))
        task, worker, at = self._receive(external_id, event)
        run = self._run_that_ends(task, worker)
        if event.get("runtime", ...) is None and not isinstance(event.get("result"), str):
            # A greenlet was killed: Celery has acknowledged its message. The stored result of a process that was then
            # lost has no runtime either.
            self._end(external_id, task, run, transitions.CUT_OFF, at, reason=transitions.CUT_OFF_REASON)
            return
        if run.started is None and runtime is not None:
            run.started = at - runtime
        elif run.started is not None and at < run.started:  # its worker's clock was set back meanwhile
            at = run.started + (runtime or 0.0)
        result = self._reporter.redacted_result(event.get("result"))
        self._end(external_id, task, run, transitions.SUCCEEDED, at, runtime=runtime, result=result)

    def _on_failed(self, external_id: str, event: Event) -> None:
        task, worker, at = self._receive(external_id, event)
        error, stacktrace = error_of(event)
        is_rejected = error.startswith("Reject:") or error == "Reject"
        if error.startswith("NotRegistered") and not task.runs_of(worker.process):
            task.name = task.name or error.partition(": ")[2]
            error = f"NotRegistered: {task.name!r}"
            self._publications.report_refused(external_id, task, worker, transitions.FAILED, at, error=error)
            return
        run = self._run_that_ends(task, worker)
        transition = transitions.REJECTED if is_rejected else transitions.FAILED
        self._end(external_id, task, run, transition, at, error=error, stacktrace=stacktrace)

    def _on_retried(self, external_id: str, event: Event) -> None:
        task, worker, at = self._receive(external_id, event)
        error, stacktrace = cause_of(event)
        run = self._run_that_is_retried(task, worker, at)
        # The next attempt is published, and perhaps received, before the event that this one is retried.
        following = [other.received for other in task.runs if other.attempt == run.attempt + 1 and other.received]
        at = min(at, *(received for received in following if received > (run.started or 0.0)), inf)
        if run.replacement == task.replacement:
            task.attempt = max(task.attempt, run.attempt + 1)
        eta = timestamp_from_iso(task.eta) if following else None
        self._end(external_id, task, run, transitions.RETRIED, at, error=error, stacktrace=stacktrace, eta=eta)

    def _on_revoked(self, external_id: str, event: Event) -> None:
        task, worker, at = self._receive(external_id, event)
        signum = event.get("signum")
        details: RunDetails = {
            "terminated": event.get("terminated") is True or None,
            "signum": str(signum) if isinstance(signum, (int, str)) else None,
            "expired": event.get("expired") is True or None,
        }
        runs = task.runs_of(worker.process)
        live = [run for run in runs if run.is_live]
        if live:
            self._end(external_id, task, live[-1], transitions.REVOKED, at, **details)
        elif not runs or runs[-1].state is not JobState.CANCELLED:
            # It was refused before it was received.
            self._publications.report_refused(external_id, task, worker, transitions.REVOKED, at, **details)

    def _on_rejected(self, external_id: str, event: Event) -> None:
        task, worker, at = self._receive(external_id, event)
        run = self._run_that_ends(task, worker)
        if event.get("requeue") is True:
            if run.state is not JobState.QUEUED:
                worker.running.pop(external_id, None)
                self._reporter.report_run(external_id, task, run, transitions.REQUEUED, at, requeued=True)
        elif run.is_live:

            def report() -> None:
                self._end(external_id, task, run, transitions.REJECTED, at, error="Reject")

            self._timers.call(_REJECTION_SECONDS, report, is_fact=True)

    def _on_cancelled(self, external_id: str, event: Event) -> None:
        task, worker, at = self._receive(external_id, event)
        run = self._run_that_ends(task, worker)
        worker.running.pop(external_id, None)
        self._timers.call(_CUT_OFF_SECONDS, lambda: self._report_cut_off(external_id, task, run, at), is_fact=True)

    # Calls from the tracker's other parts

    def start_run(self, external_id: str, task: Task, run: Run, worker: TrackedWorker, at: float) -> None:
        """Report that `run` has begun at `at`."""
        run.started = at
        worker.running[external_id] = run
        self._reporter.report_run(external_id, task, run, transitions.STARTED, at)
        if run.replacement < task.replacement:
            self._end_replaced_runs(external_id, task)

    def forget_unconfirmed(self) -> None:
        """Forget all unconfirmed runs: the inspect replies about them are too old."""
        for external_id, task in self.store:
            for run in task.forget_unconfirmed():
                self._worker_events.on_run_ended(external_id, run)

    def report_lost_run(self, external_id: str, run: Run, at: float, reason: str) -> None:
        """Report `run` as `unknown`, for `reason`: its end is not known, at least for now."""
        task = self.store.get(external_id)
        if task is not None and run.state is JobState.ACTIVE:
            if task.published is not None and task.published.replacement > run.replacement:
                run.state = JobState.QUEUED  # it has replaced itself, and waits for a worker
                return
            self._reporter.report_run(
                external_id, task, run, transitions.LOST_WHILE_RUNNING, at, is_lost=True, reason=reason
            )

    # Transitions

    def _receive(self, external_id: str, event: Event) -> tuple[Task, TrackedWorker, float]:
        task, worker, at = (
            self.store.get_or_create(external_id),
            self._worker_events.touch(event),
            event_time(event, self._timers.now),
        )
        self._publications.flush_pending(external_id, task, worker, at)
        return task, worker, at

    def _run_that_ends(self, task: Task, worker: TrackedWorker) -> Run:
        """Return the run that an end from `worker` is for: an active one, else one that is to begin, else the last."""
        runs = task.runs_of(worker.process)
        for states in ((JobState.ACTIVE, JobState.UNKNOWN), (None,)):
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

    def _end(
        self, external_id: str, task: Task, run: Run, transition: Transition, at: float, **details: Unpack[RunDetails]
    ) -> None:
        """Report that `run` has ended, unless it had: Celery announces some verdicts twice, and some after another."""
        if run.is_unconfirmed and run.state is None and run.started is not None:
            self.start_run(external_id, task, run, self._worker_events.touch_run(run), run.started)
        self._worker_events.on_run_ended(external_id, run, at)
        if run.is_live and transition.state in _ATTEMPT_ENDS and (successor := task.successor_of(run)) is not None:
            # It has published the next attempt, whether or not Celery knows of a `Retry`: the job has not ended.
            transition = transition._replace(state=JobState.RETRYING)
            at = min(at, successor.at) if successor.at >= (run.started or 0.0) else at
            details["eta"] = timestamp_from_iso(successor.eta) or details.get("eta") or timestamp(at)
        if run.is_live or (run.state, transition.state) in _CORRECTIONS:
            self._reporter.report_run(external_id, task, run, transition, at, **details)

    def _report_cut_off(self, external_id: str, task: Task, run: Run, at: float) -> None:
        """Report that `run` was cut off, unless it had ended: it runs again if it is acknowledged late."""
        if not run.is_live:
            return
        acks_late = self.acks_late.get(task.name)
        if acks_late is None:
            self._reporter.report_run(external_id, task, run, transitions.LOST_BY_CANCEL, at, reason=_MAYBE_CUT_OFF)
        elif acks_late:
            self._reporter.report_run(external_id, task, run, transitions.RETURNED_BY_CANCEL, at, requeued=True)
        else:
            self._end(external_id, task, run, transitions.CUT_OFF_BY_CANCEL, at, reason=transitions.CUT_OFF_REASON)

    def _end_replaced_runs(self, external_id: str, task: Task) -> None:
        """End the last run of every task that another one has replaced under its id: no event reports that."""
        replacement, runs = task.replacement, task.runs
        for run in runs:
            if run.replacement >= replacement or run.state not in (JobState.ACTIVE, JobState.UNKNOWN):
                continue
            if not any(other.replacement == run.replacement and other.attempt > run.attempt for other in runs):
                run.state = JobState.QUEUED
                self._worker_events.on_run_ended(external_id, run)

    def _forget(self, external_id: str, task: Task) -> None:
        for run in task.runs:
            if run.state is JobState.ACTIVE:
                self._worker_events.on_run_ended(external_id, run)
