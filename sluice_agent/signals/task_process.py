"""Handlers around every user task, in the process that executes it: a prefork child, or the one of other pools."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject, Retry

from sluice_agent.attempt_message import HEADER
from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_of_ns
from sluice_agent.signals.agent_header import RUN
from sluice_agent.signals.batches import jobs_in, outcome_in_batch
from sluice_agent.signals.current_runs import (
    agent_header_of,
    begin_batch,
    begin_run,
    current_batch,
    current_run,
    end_batch,
    run_of,
)
from sluice_agent.signals.message_headers import facts_of, max_retries_of
from sluice_agent.signals.missing_ends import MissingEnds
from sluice_agent.signals.outcome import SUCCEEDED, Outcome, original_exception, outcome_of, outcome_stored
from sluice_agent.signals.queue_name import queue_of
from sluice_agent.signals.recorder import Recorder
from sluice_agent.signals.replacing import expected_successors
from sluice_agent.signals.run import Run
from sluice_agent.signals.run_names import RunNames

_REPLACED = "Replaced by new task"  # in the `Ignore` of `Task.replace`: the job goes on as another task under its id

_IGNORED = Outcome(transitions.IGNORED)


class TaskProcess:
    """Handlers of `task_prerun` and `task_postrun`: a run begins, and ends in a way that has no signal of its own."""

    def __init__(self, sink: Sink, recorder: Recorder, names: RunNames, missing_ends: MissingEnds) -> None:
        self._sink = sink
        self._recorder = recorder
        self._run_names = names
        self._missing_ends = missing_ends

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
        if HEADER not in request:  # else the task reports when its attempt begins
            self._recorder.record_start(run)

    def attempt_started(self, task: Task) -> None:
        """Report `active`, for an attempt of the jobs API: its message alone begins nothing."""
        run = current_run(task)
        if run is not None:
            self._recorder.record_start(run)

    def _begin_batch(self, task: Task, args: Any) -> None:
        if not current_batch(task.request):
            begin_batch(task.request, {str(job["id"]): self._run(task, job, {}) for job in jobs_in(args)})
        for run in current_batch(task.request).values():
            self._recorder.record_start(run)

    def _run(self, task: Task, request: Mapping[str, Any], agent_header: Mapping[str, str]) -> Run:
        hostname = request.get("hostname")
        if RUN not in agent_header:  # not received by an agent: an eager task, or a main process without the agent
            agent_header = {**agent_header, RUN: self._run_names.next(hostname or "")}
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

    def postrun(self, task: Task, retval: Any = None, state: str | None = None, **_: Any) -> None:
        """Report `completed`, and the ends without a separate signal: Ignore, and Reject for good.

        A job that ends without a state was stopped from outside: the main process knows its end, or no process does.
        """
        run = current_run(task)
        if run is None:
            self._end_batch(task, state)
        elif run.state is None and HEADER in vars(task.request):
            self._recorder.record_stop(run)  # an attempt that has not begun: its message was dropped
        elif state == "SUCCESS":
            unstored = sys.exc_info()[1]
            if unstored is not None:
                self._recorder.record_unstored_success(run, unstored)
            redact = self._sink.redact
            if redact is None:
                self._recorder.record_end(run, SUCCEEDED)
            else:
                self._recorder.record_end(run, SUCCEEDED, result=redact("result", retval))
        elif (outcome := _outcome_without_signal(task, run, retval, state)) is not None:
            self._recorder.record_end(run, outcome)
        else:
            self._recorder.record_stop(run)
            if state is None:
                self._ended_without_a_state(run, sys.exc_info()[1])

    def _end_batch(self, task: Task, state: str | None) -> None:
        for run in current_batch(task.request).values():
            self._recorder.record_end(run, outcome_in_batch(run.stored, state))
        end_batch(task.request)

    def _ended_without_a_state(self, run: Run, raised: BaseException | None) -> None:
        if not isinstance(raised, Exception) or run.is_eager:
            self._missing_ends.add(run, raised)
            return
        # Celery failed to handle what the task raised, as the result backend is away: no signal follows here.
        cause = original_exception(raised)
        if isinstance(cause, Retry):
            self._recorder.record_retry(run, outcome_of(transitions.RETRIED, cause, None))
        else:
            self._recorder.record_end(run, outcome_of(transitions.FAILED, cause, None))
        self._recorder.mark(raised)


def _outcome_without_signal(task: Task, run: Run, retval: Any, state: str | None) -> Outcome | None:
    """Return the end of a run that no other signal announces; None if it has not ended, or another signal does."""
    if state == "IGNORED" and not (isinstance(retval, Ignore) and _REPLACED in retval.args):
        return (outcome_stored(*run.stored) if run.stored else None) or _IGNORED
    if state == "REJECTED" and isinstance(retval, Reject) and not (retval.requeue and _goes_back(task, run)):
        return outcome_of(transitions.REJECTED, retval, None)
    return None


def _goes_back(task: Task, run: Run) -> bool:
    """Return whether a message that is rejected now goes back to its queue: only if it is not acknowledged yet."""
    return bool(task.acks_late) and not run.is_eager
