"""The recorder: it alone changes the state of a run, knows which end is reported already, and emits the events of jobs.

But for those of plain jobs, as long as they are plain: nothing has to be decided about them.

The other files of this package find out what happened to which run, and pass it on to here. Celery announces some ends
twice, some in two processes, and some that another one replaces. So these are the rules:

* A run that this process executes keeps its own state, and nothing else does. It begins once and ends once; only a
  failure may follow an end, and corrects it, as when a result can't be stored.
* What a worker's main process announces of a run, which another process may execute, is reported once for each state,
  and no failure after its job is queued again. If no signal announces it, it is reported only if no other end is.
* An end that leaves its process as an exception, which the main process then announces, is marked on that.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery.exceptions import Reject

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import Extensions, JobEvents
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.model import JobState
from sluice_agent.signals.outcome import Outcome
from sluice_agent.signals.reported_ends import ReportedEnds, is_marked, mark_exception
from sluice_agent.signals.run import ReceivedRun, Run

if TYPE_CHECKING:
    from typing_extensions import Unpack

_PROGRESS_INTERVAL = 1.0  # seconds between two progress events of one task
# Looked up once: they are read around every task, and an enumeration's member is found through its metaclass.
_ACTIVE, _COMPLETED, _FAILED, _RETRYING = JobState.ACTIVE, JobState.COMPLETED, JobState.FAILED, JobState.RETRYING


class Recorder:
    """Recorder of what happens to the jobs that this process publishes, receives or executes."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._ends = ReportedEnds()
        """What the main process has announced, and the ends of runs here, which it may announce as well."""

    def record_waiting(
        self, events: JobEvents, transition: Transition, when: str, **extensions: Unpack[Extensions]
    ) -> None:
        """Record that a job waits to be run."""
        self._sink.emit(events.event(transition, when, **extensions))

    def record_unpublished(self, events: JobEvents, when: str, error: str, reason: str) -> None:
        """Record that it is unknown whether the broker has a job, which was recorded as waiting at `when`."""
        self._sink.emit(events.event(transitions.LOST_WHILE_WAITING, when, error=error, reason=reason))

    def record_start(self, run: Run) -> None:
        """Record that `run` has begun."""
        if run.state is None:
            self._sink.emit(run.events.event(transitions.STARTED, run.started, started=run.started))
            run.state = _ACTIVE

    def record_progress(self, run: Run, fraction: float) -> None:
        """Record the progress of `run`: at most once a second, and always the last value before its end."""
        if run.has_ended:  # the task's hooks run after its end
            return
        now = time.monotonic()
        run.pending_progress = float(fraction), run.now()
        if now - run.progress_at >= _PROGRESS_INTERVAL:
            run.progress_at = now
            self._emit_pending_progress(run)

    def record_stored_state(self, run: Run, state: str, detail: Any) -> None:
        """Record that the task stores `state` for `run`, with an exception or a `meta`: its end, if no other follows.

        After the end of the run it would stay in memory, with every object that it refers to.
        """
        if not run.has_ended:
            run.stored = state, detail

    def record_published_retry(self, run: Run, eta: str | None) -> None:
        """Record that `run` publishes the next attempt of its job: it ends by that, and reports it."""
        run.published_at, run.published_for = run.now(), eta

    def record_unpublished_retry(self, run: Run) -> None:
        """Record that the publication has failed: `run` ends by the error."""
        run.published_at = None

    def record_unstored_success(self, run: Run, error: BaseException) -> None:
        """Record that the result of `run` can't be stored due to `error`: after the end Celery announces a failure."""
        run.unstored_by = id(error)

    def record_end(
        self, run: Run, outcome: Outcome, *, when: str | None = None, **extensions: Unpack[Extensions]
    ) -> None:
        """Record the end of `run`, now or at `when`."""
        state = outcome.transition.state
        has_ended = run.state is not _ACTIVE and run.has_ended
        if has_ended and state is not _FAILED:
            return
        if run.published_at is not None and not has_ended and state is not _RETRYING:
            # Its next attempt waits, or has begun by now: `retry(throw=False)`, or a `Retry` that the task has caught.
            state, when = _RETRYING, run.published_at
            outcome = replace(outcome, transition=outcome.transition._replace(state=state))
            extensions["eta"] = run.published_for or when
        if run.pending_progress is not None:
            self._emit_pending_progress(run)
        runtime = time.monotonic() - run.started_monotonic
        self._sink.emit(
            run.events.event(
                outcome.transition,
                when or run.after(runtime),
                previous=_ACTIVE,
                started=run.started,
                error=outcome.error,
                stacktrace=outcome.stacktrace,
                runtime=runtime,
                **extensions,
            )
        )
        run.state = state
        if state is not _COMPLETED:
            self._ends.add(run.events, state)  # where this is the main process, it may announce it too
            run.unstored_by = None  # the failure that corrects a success is reported once
        run.stored = None  # it may refer to the request, which is the weak key that `run` is stored by

    def record_retry(self, run: Run, outcome: Outcome) -> None:
        """Record that `run` has ended in a retry, when it published that."""
        self.record_end(run, outcome, when=run.published_at, eta=outcome.eta)

    def record_stop(self, run: Run) -> None:
        """Record that `run` is executed no more, and that its end is recorded later or in another process."""
        run.stored = None
        self._emit_pending_progress(run)

    def record_missing_end(self, run: Run, outcome: Outcome, *, when: str, runtime: float, reason: str) -> None:
        """Record the end of `run`, which was stopped at `when`, unless an end is reported: one should have been."""
        if run.has_ended or self._ends.has_end(run.events):
            return
        self._sink.emit(
            run.events.event(
                outcome.transition,
                when,
                previous=JobState.ACTIVE,
                started=run.started,
                error=outcome.error,
                stacktrace=outcome.stacktrace,
                runtime=runtime,
                reason=reason,
            )
        )
        run.state = outcome.state
        self._ends.add(run.events, outcome.state)

    def record_announced_end(
        self,
        run: ReceivedRun,
        outcome: Outcome,
        *,
        when: str | None = None,
        runtime: float | None = None,
        **extensions: Unpack[Extensions],
    ) -> None:
        """Record an end that the main process announces, of now or of `when`. `runtime` is in seconds."""
        if self._ends.is_reported(run.events, outcome.state):  # Celery 5.7 announces some ends twice
            return
        if outcome.state is JobState.FAILED and self._ends.is_reported(run.events, JobState.QUEUED):
            return  # 5.7 announces this of a job that it has put back at its time limit: it runs again
        extensions.setdefault("eta", outcome.eta)
        self._sink.emit(
            run.events.event(
                outcome.transition,
                when or run.ended,
                started=run.started,
                error=outcome.error,
                stacktrace=outcome.stacktrace,
                runtime=runtime,
                **extensions,
            )
        )
        self._ends.add(run.events, outcome.state)

    def record_unannounced_end(
        self,
        run: ReceivedRun,
        outcome: Outcome,
        *,
        when: str | None = None,
        runtime: float | None = None,
        **extensions: Unpack[Extensions],
    ) -> None:
        """Record an end for which Celery fires no signal, unless another one of the run is reported."""
        if not self._ends.has_end(run.events):
            self.record_announced_end(run, outcome, when=when, runtime=runtime, **extensions)

    def is_recorded(self, raised: BaseException) -> bool:
        """Return whether the end that `raised` is the cause of was recorded by the process that executed the run."""
        return isinstance(raised, Reject) or is_marked(raised)  # Celery 5.7 announces a rejection as a failure too

    def mark(self, raised: BaseException) -> None:
        """Mark the cause of an end that is recorded: Celery raises it again, here and in the main process."""
        mark_exception(raised)

    def mark_successor(self, raised: BaseException, failure: object) -> None:
        """Mark what Celery raises in place of `failure`, if the end by that is recorded."""
        if isinstance(failure, BaseException) and is_marked(failure):
            mark_exception(raised)

    def _emit_pending_progress(self, run: Run) -> None:
        pending = run.pending_progress
        if pending is not None:
            progress, when = pending
            self._sink.emit(run.events.event(transitions.PROGRESSED, when, started=run.started, progress=progress))
            if run.pending_progress is pending:
                run.pending_progress = None
