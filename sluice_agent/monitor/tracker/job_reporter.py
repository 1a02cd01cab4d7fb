"""The reporter of jobs: it turns the record of a task into the lines of its events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents, JobExtensions, JobFacts, RunDetails, job_id
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp, timestamp_from_iso
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.model import JobState
from sluice_agent.monitor.tracker.event_dates import date, date_of_refusal, date_of_waiting, record_agent_report
from sluice_agent.monitor.tracker.parsing import Event
from sluice_agent.monitor.tracker.task_store import PendingPublication, Process, Run, Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

_NO_ARGUMENTS: Mapping[str, Any] = {}


class JobReporter:
    """Writes events to the sink.

    `emit_for` returns where events of a worker process go that its agent may emit; None if the agent does.
    """

    def __init__(
        self,
        sink: Sink,
        emit_for: Callable[[Process], Callable[[bytes], None] | None],
    ) -> None:
        self._sink = sink
        self._emit_for = emit_for

    def report_waiting(
        self, external_id: str, task: Task, pending: PendingPublication, worker: Process | None = None
    ) -> None:
        """Report that a task waits for its first run: once, and again for each replacement.

        Also for a later attempt that is published from outside. `worker` is the process that has received it, if any.
        """
        replacement = pending.replacement
        if task.waiting_order >= pending.order or self._sink.is_ignored(pending.name):
            return
        pending.at = date_of_waiting(task, pending.order, pending.at)
        if task.created is not None:  # its first message created it
            task.created = min(task.created, pending.at) if replacement else pending.at
        task.waiting_replacement, task.waiting_attempt, task.waiting_since = replacement, pending.attempt, pending.at
        emit = self._sink.emit if worker is None else self._emit_for(worker)
        if emit is None:
            return
        run_name = f"+{replacement}" if replacement else ""
        events = self._job_events(external_id, task, name=pending.name, attempt=pending.attempt, run_name=run_name)
        waits_since, requeued = timestamp(pending.at), True if replacement else None
        emit(events.event(pending.transition, waits_since, requeued=requeued, **pending.arguments))

    def redacted_arguments(self, event: Event) -> Mapping[str, Any]:
        """Return the arguments to report: none, or what the hook returns for them."""
        redact = self._sink.redact
        return {name: redact(name, event.get(name)) for name in ("args", "kwargs")} if redact else _NO_ARGUMENTS

    def report_refused(
        self,
        external_id: str,
        task: Task,
        worker: Process,
        transition: Transition,
        at: float,
        **details: Unpack[RunDetails],
    ) -> None:
        """Report the end of a task that `worker` has refused to run."""
        emit = self._emit_for(worker)
        if emit is None or self._sink.is_ignored(task.name):
            return
        events = self._job_events(external_id, task, attempt=task.attempt, worker=worker.hostname)
        emit(events.event(transition, timestamp(date_of_refusal(task, at)), **details))

    def report_missing(self, external_id: str, task: Task, at: float, reason: str) -> None:
        """Report a task that waited as `unknown`: its end is not known."""
        task.is_missing = True
        if self._sink.is_ignored(task.name):
            return
        task.waiting_since = at = date_of_refusal(task, at)
        events = self._job_events(external_id, task, attempt=task.attempt)
        self._sink.emit(events.event(transitions.LOST_WHILE_WAITING, timestamp(at), reason=reason))

    def report_run(
        self,
        external_id: str,
        task: Task,
        run: Run,
        transition: Transition,
        at: float,
        *,
        is_lost: bool = False,
        **details: Unpack[RunDetails],
    ) -> None:
        """Report and record the state of a run; `at` is by its worker's clock.

        `is_lost`: its worker has gone, and the worker's agent, if any, with it.
        """
        previous = JobState.ACTIVE if run.state is JobState.ACTIVE else None
        run.state = state = transition.state
        emit = self._sink.emit if is_lost else self._emit_for(run.worker)
        name = run.task_name or task.name
        if emit is None:
            record_agent_report(run, state, at)
        if emit is None or self._sink.is_ignored(name):
            return
        event_timestamp = timestamp(date(task, run, state, at))
        started = timestamp(run.reported_started) if run.reported_started else None
        events = self._job_events(
            external_id,
            task,
            name=name,
            attempt=run.attempt,
            is_attempt_known=run.is_attempt_known,
            worker=run.worker.hostname,
            run_name=run.name,
            redelivered=run.redelivered,
        )
        emit(events.event(transition, event_timestamp, previous=previous, started=started, **details))

    def redacted_result(self, value: Any) -> Any:
        """Return the result to report: none, or what the hook returns for it."""
        return self._sink.redact("result", value) if self._sink.redact else None

    def _job_events(
        self,
        external_id: str,
        task: Task,
        *,
        name: str | None = None,
        attempt: int,
        is_attempt_known: bool | None = None,
        worker: str | None = None,
        run_name: str = "",
        redelivered: bool = False,
    ) -> JobEvents:
        extensions: JobExtensions = {"rootId": job_id(task.root_id or external_id)}
        if task.parent_id:
            extensions["parentId"] = job_id(task.parent_id)
        if task.eta:
            extensions["eta"] = timestamp_from_iso(task.eta)
        if task.expires:
            extensions["expires"] = timestamp_from_iso(task.expires)
        if task.priority is not None:
            extensions["priority"] = task.priority
        if redelivered:
            extensions["redelivered"] = True
        created = timestamp(task.created) if task.created else None
        run_name += task.publication
        is_known = task.is_attempt_known if is_attempt_known is None else is_attempt_known
        name = name or task.name
        facts = JobFacts(external_id, name, attempt, task.queue, worker, None, created, run_name, extensions, is_known)
        return JobEvents(self._sink.connection_id, facts)
