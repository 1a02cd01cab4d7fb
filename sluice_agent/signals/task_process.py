"""Handlers around every user task, in the process that runs it: a prefork child, or the one process of other pools."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.exceptions import Ignore, Reject, Retry

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import Extensions, JobEvents
from sluice_agent.lifecycle.identity import is_named_by
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_of_ns
from sluice_agent.model import JobState
from sluice_agent.signals.batches import jobs_in, outcome_in_batch
from sluice_agent.signals.header import PROCESS, RUN
from sluice_agent.signals.message import facts_of, max_retries_of
from sluice_agent.signals.missing_verdicts import MissingVerdicts
from sluice_agent.signals.outcome import (
    SUCCEEDED,
    Outcome,
    mark_reported,
    original_exception,
    outcome_of,
    outcome_stored,
)
from sluice_agent.signals.queue_name import queue_of
from sluice_agent.signals.replacing import expected_successors
from sluice_agent.signals.run import (
    Run,
    RunNames,
    agent_header_of,
    begin_batch,
    begin_run,
    current_batch,
    current_run,
    end_batch,
    run_of,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_PROGRESS_INTERVAL = 1.0  # seconds between two progress events of one task
_REPLACED = "Replaced by new task"  # in the `Ignore` of `Task.replace`: the job goes on as another task under its id

_IGNORED = Outcome(transitions.IGNORED)


class TaskProcess:
    """Reporter of `active`, of progress, and of every end that the executing process knows."""

    def __init__(self, sink: Sink, missing_verdicts: MissingVerdicts, names: RunNames) -> None:
        self._sink = sink
        self._run_names = names
        self._missing_verdicts = missing_verdicts
        self._succeeded: tuple[Run, int] | None = None
        """The last run that succeeded here but whose result can't be stored, with the error's id(): Celery announces
        later that the job has failed.
        """

    def prerun(self, task: Task, args: Any = (), **_: Any) -> None:
        """Report `active`."""
        if self._sink.is_ignored(task.name):
            return
        context = task.request  # read once: Celery searches its stack for it each time
        request = vars(context)
        if request.get("id") is None:  # no single job's request: a library may call the task for several at once
            self._begin_batch(task, args)
            return
        run = run_of(context)
        if run is None:
            agent_header = agent_header_of(context)
            if not agent_header and request.get("is_eager"):  # it was published nowhere
                agent_header = expected_successors({}).get(str(request["id"]), {})
            run = self._run(task, request, agent_header)
            begin_run(context, run)
        self._report_active(run)

    def _begin_batch(self, task: Task, args: Any) -> None:
        if not current_batch(task.request):
            begin_batch(task.request, {str(job["id"]): self._run(task, job, {}) for job in jobs_in(args)})
        for run in current_batch(task.request).values():
            self._report_active(run)

    def _report_active(self, run: Run) -> None:
        if not run.has_begun:
            self._sink.emit(run.events.event(transitions.STARTED, run.started, started=run.started))
            run.has_begun = True

    def _run(self, task: Task, request: Mapping[str, Any], agent_header: Mapping[str, str]) -> Run:
        hostname = request.get("hostname")
        if RUN not in agent_header:  # not received by an agent: an eager task, or a main process without the agent
            agent_header = {**agent_header, RUN: self._run_names.next(hostname or "")}
        elif not is_named_by(agent_header[RUN], os.getpid()):
            agent_header = {**agent_header, PROCESS: str(os.getpid())}
        facts = facts_of(
            request,
            agent_header,
            name=task.name,
            queue=queue_of(task.app, request.get("delivery_info")),
            worker_id=hostname,
            max_retries=max_retries_of(task),
        )
        started_ns, started_monotonic = time.time_ns(), time.monotonic()
        events = JobEvents(self._sink.connection_id, facts)
        return Run(events, started_ns, started_monotonic, timestamp_of_ns(started_ns), agent_header)

    def failure(self, sender: Task, task_id: str, exception: BaseException, einfo: Any, **_: Any) -> bool:
        """Report `failed`; return False if another process ran the job."""
        raised = sys.exc_info()[1] or exception  # `exception` is a copy if the original can't be pickled
        run = current_run(sender, task_id) or self._run_that_had_succeeded(task_id, raised)
        if run is None:
            return False
        self._end(run, outcome_of(transitions.FAILED, raised, einfo))
        return True

    def retry(self, sender: Task, request: Any, reason: Retry | None = None, einfo: Any = None, **_: Any) -> bool:
        """Report `retrying`; return False if another process ran the job."""
        run = current_run(sender, request.id)
        if run is None or reason is None:
            return False
        self._end_in_retry(run, reason, einfo)
        return True

    def postrun(self, task: Task, retval: Any = None, state: str | None = None, **_: Any) -> None:
        """Report `completed`, and the ends without a separate signal: Ignore, and Reject for good.

        A job that ends without a state was stopped from outside: the main process has the verdict, or no process has.
        """
        run = current_run(task)
        if run is None:
            for member in current_batch(task.request).values():
                self._end(member, outcome_in_batch(member.stored, state))
            end_batch(task.request)
            return
        if state == "SUCCESS":
            unstored = sys.exc_info()[1]
            if unstored is not None:
                self._succeeded = run, id(unstored)
            redact = self._sink.redact
            if redact is None:
                self._end(run, SUCCEEDED)
            else:
                self._end(run, SUCCEEDED, result=redact("result", retval))
        elif state == "IGNORED" and not (isinstance(retval, Ignore) and _REPLACED in retval.args):
            self._end(run, (outcome_stored(*run.stored) if run.stored else None) or _IGNORED)
        elif state == "REJECTED" and isinstance(retval, Reject) and not (retval.requeue and _goes_back(task, run)):
            self._end(run, outcome_of(transitions.REJECTED, retval, None))
        else:
            run.stored = None
            self._emit_pending_progress(run)
            if state is None:
                self._ended_without_a_state(run, sys.exc_info()[1])

    def progress(self, run: Run, fraction: float) -> None:
        """Report the progress of a job: at most once a second, and always the last value before its end."""
        if run.has_ended:  # the task's hooks run after its end
            return
        now = time.monotonic()
        run.pending_progress = float(fraction), run.now()
        if now - run.progress_at >= _PROGRESS_INTERVAL:
            run.progress_at = now
            self._emit_pending_progress(run)

    def _ended_without_a_state(self, run: Run, raised: BaseException | None) -> None:
        if not isinstance(raised, Exception) or run.is_eager:
            self._missing_verdicts.add(run, raised)
            return
        # Celery failed to handle what the task raised, as the result backend is away: no signal follows here.
        cause = original_exception(raised)
        if isinstance(cause, Retry):
            self._end_in_retry(run, cause, None)
        else:
            self._end(run, outcome_of(transitions.FAILED, cause, None))
        mark_reported(raised)

    def _end_in_retry(self, run: Run, reason: Retry, einfo: Any) -> None:
        outcome = outcome_of(transitions.RETRIED, reason, einfo)
        self._end(run, outcome, when=run.published_at, eta=outcome.eta)

    def _run_that_had_succeeded(self, external_id: str, raised: BaseException) -> Run | None:
        """Return the run that succeeded and then failed by `raised`: the job's id alone could match another attempt."""
        run, error = self._succeeded or (None, 0)
        if run is None or run.events.facts.external_id != str(external_id) or error != id(raised):
            return None
        self._succeeded = None
        return run

    def _end(self, run: Run, outcome: Outcome, *, when: str | None = None, **extensions: Unpack[Extensions]) -> None:
        if run.has_ended and outcome.state is not JobState.FAILED:
            return  # a failure after a success corrects it; nothing else follows an end
        if run.published_at is not None and not run.has_ended and outcome.state is not JobState.RETRYING:
            # Its next attempt waits, or has begun by now: `retry(throw=False)`, or a `Retry` that the task has caught.
            transition = outcome.transition._replace(state=JobState.RETRYING)
            outcome, when = replace(outcome, transition=transition), run.published_at
            extensions["eta"] = run.published_for or when
        if run.pending_progress is not None:
            self._emit_pending_progress(run)
        runtime = time.monotonic() - run.started_monotonic
        self._sink.emit(
            run.events.event(
                outcome.transition,
                when or run.after(runtime),
                previous=JobState.ACTIVE,
                started=run.started,
                error=outcome.error,
                stacktrace=outcome.stacktrace,
                runtime=runtime,
                **extensions,
            )
        )
        run.has_ended = True
        if outcome.state is not JobState.COMPLETED:
            self._missing_verdicts.mark_reported(run, outcome.state)
        run.stored = None  # it may refer to the request, which is the weak key that `run` is stored by

    def _emit_pending_progress(self, run: Run) -> None:
        pending = run.pending_progress
        if pending is not None:
            progress, when = pending
            self._sink.emit(run.events.event(transitions.PROGRESSED, when, started=run.started, progress=progress))
            if run.pending_progress is pending:
                run.pending_progress = None


def _goes_back(task: Task, run: Run) -> bool:
    """Return whether a message that is rejected now goes back to its queue: only if it is not acknowledged yet."""
    return bool(task.acks_late) and not run.is_eager
