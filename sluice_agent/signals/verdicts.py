"""What only a worker's main process knows: what it received, and how a job ended whose process could not say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery, Task
from celery.exceptions import Reject, Retry
from celery.worker.request import Request

from sluice_agent.identity import publication_of
from sluice_agent.model import JobState
from sluice_agent.signals.clock import times_of
from sluice_agent.signals.execution import Execution
from sluice_agent.signals.facts import facts_of, max_retries_of
from sluice_agent.signals.header import CREATED_AT, PUBLISHED_AT, REPLACEMENTS, RUN
from sluice_agent.signals.listening import listen
from sluice_agent.signals.outcome import Outcome, is_told, outcome_of
from sluice_agent.signals.queues import queue_of
from sluice_agent.signals.received import Received
from sluice_agent.signals.run import RunNames
from sluice_agent.signals.told import Told
from sluice_agent.signals.watch import Watch, harmless
from sluice_agent.translation import JobEvents, now, timestamp_of


class Verdicts:
    """`queued` where no producer has told it, `queued` again, and the ends that the main process announces."""

    def __init__(self, watch: Watch, execution: Execution, told: Told, names: RunNames, received: Received) -> None:
        self._watch = watch
        self._names = names
        self._execution = execution
        self._received = received
        self._told = told

    def watch_requeues(self) -> None:
        """Hear each message that goes back to its queue, where the worker sends it back: no signal says it."""
        hear = harmless(self._watch, self.tell_of)

        def around(original: Callable[..., Any]) -> Callable[..., Any]:
            def reject(request: Request, *args: Any, **kwargs: Any) -> Any:
                goes_back = kwargs.get("requeue", args[0] if args else False)
                if goes_back and not getattr(request, "acknowledged", True):
                    hear(request, Outcome(JobState.QUEUED, "REJECTED"), requeued=True)
                return original(request, *args, **kwargs)

            return reject

        listen(Request, "reject", around, without="a job that goes back to its queue is not reported as queued again")

    def received(self, request: Any, **_: Any) -> None:
        """Name the execution that is about to begin, and tell `queued` where nobody has."""
        note = self._received.keep(request)
        if self._watch.is_ignored(request.type):
            return
        task = request.request_dict
        told_by_producer = (PUBLISHED_AT if REPLACEMENTS in note else CREATED_AT) in note
        note[RUN] = self._names.next(request.hostname)
        if not told_by_producer:
            # Nobody knows when it was published: an id that may come again is told apart by its execution.
            publication = publication_of(str(request.id), note[RUN])
            told = self._about(request.app, task, {**note, RUN: publication}, request.type)
            # A monitor decides likewise: it was to start later, even if that moment has come while it waited.
            state = JobState.SCHEDULED if timestamp_of(task.get("eta")) else JobState.QUEUED
            requeued = True if REPLACEMENTS in note else None
            self._watch.emit(told.event(state, "PENDING", now(), requeued=requeued))

    def failure(self, sender: Task, task_id: str, exception: BaseException, einfo: Any = None, **more: Any) -> None:
        """Tell `failed`, whichever process noticed it."""
        if isinstance(exception, Reject) or is_told(exception):
            return  # Celery 5.7 reports a rejection as a failure too; REJECTED has told it
        if self._execution.failure(sender=sender, task_id=task_id, exception=exception, einfo=einfo, **more):
            return
        outcome = outcome_of(JobState.FAILED, "FAILURE", exception, einfo)
        if sender.request.id == task_id:
            note = self._received.of_context(sender.request)
            self._tell(sender.app, vars(sender.request), note, sender.name, outcome)
        elif (request := self._received.request(task_id)) is not None:
            self._tell(sender.app, request.request_dict, self._received.of_request(request), sender.name, outcome)

    def retry(self, sender: Task, request: Any, reason: Retry | None = None, einfo: Any = None, **more: Any) -> None:
        """Tell `retrying`, whichever process noticed it. No reason: Celery has cancelled the job, see `CutOff`."""
        if reason is None or self._execution.retry(sender=sender, request=request, reason=reason, einfo=einfo, **more):
            return
        note = self._received.of_context(request)
        self._tell(sender.app, vars(request), note, sender.name, outcome_of(JobState.RETRYING, "RETRY", reason, einfo))

    def revoked(
        self,
        sender: Task,
        request: Any,
        terminated: bool = False,
        signum: Any = None,
        expired: bool = False,
        **_: Any,
    ) -> None:
        """Tell `cancelled`."""
        self._tell(
            sender.app,
            vars(request),
            self._received.of_context(request),
            sender.name,
            Outcome(JobState.CANCELLED, "REVOKED"),
            terminated=terminated or None,
            signum=None if signum is None else f"{signum:d}" if isinstance(signum, int) else str(signum),
            expired=expired or None,
        )

    def unknown(self, sender: Any, message: Any, name: str, id: str, **_: Any) -> None:  # noqa: A002
        """Tell `failed`: no worker here has such a task."""
        task = {
            **(message.headers or {}),
            "id": id,
            "hostname": sender.hostname,
            "delivery_info": message.delivery_info,
        }
        error = Outcome(JobState.FAILED, "FAILURE", error=f"NotRegistered: {name!r}")
        if "task" not in task and isinstance(message.payload, dict):  # task protocol 1
            task = {**message.payload, **task}
        self._tell(sender.app, task, self._received.of_message(message), name, error)

    def malformed(self, sender: Any, message: Any, exc: BaseException | None = None, **_: Any) -> None:
        """Tell `failed`: the message is no task that Celery could run. One that has no id at all is counted as lost."""
        headers = message.headers if isinstance(message.headers, dict) else {}
        try:
            payload = message.payload
        except Exception:  # noqa: BLE001 - what can't be read may be why it was turned away
            payload = None
        task = {**payload, **headers} if isinstance(payload, dict) else headers
        external_id = task.get("id") or message.properties.get("correlation_id")
        if not external_id:
            self._watch.lost("malformed_message")
            return
        name = task.get("task")
        self._tell(
            sender.app,
            {**task, "id": str(external_id), "hostname": sender.hostname, "delivery_info": message.delivery_info},
            self._received.of_message(message),
            name if isinstance(name, str) else "",
            Outcome(JobState.FAILED, "REJECTED", error=f"InvalidTaskError: {exc or 'the message names no task'}"),
        )

    def tell_of(self, request: Any, outcome: Outcome, **extensions: Any) -> None:
        """Tell what became of a job that this process has received, unless it is told to be over."""
        task, note = request.request_dict, self._received.of_request(request)
        if not self._told.has_verdict(self._about(request.app, task, note, request.type).facts):
            self._tell(request.app, task, note, request.type, outcome, **extensions)

    def _tell(
        self,
        app: Celery,
        task: Mapping[str, Any],
        note: Mapping[str, str],
        name: str,
        outcome: Outcome,
        *,
        when: str | None = None,
        **extensions: Any,
    ) -> None:
        if self._watch.is_ignored(name):
            return
        told = self._about(app, task, note, name)
        facts = told.facts
        if self._told.is_told(facts, outcome.state):  # Celery 5.7 fires some verdicts twice
            return
        if outcome.state is JobState.FAILED and self._told.is_told(facts, JobState.QUEUED):
            return  # 5.7 says so of a job that it has put back at its time limit: it runs again
        started, ended = times_of(self._received.request(facts.external_id))
        self._watch.emit(
            told.event(
                outcome.state,
                outcome.celery_state,
                when or ended,
                started=started,
                error=outcome.error,
                stacktrace=outcome.stacktrace,
                eta=outcome.eta,
                **extensions,
            )
        )
        self._told.note(facts, outcome.state)

    def _about(self, app: Celery, task: Mapping[str, Any], note: Mapping[str, str], name: str) -> JobEvents:
        facts = facts_of(
            task,
            note,
            name=name,
            queue=queue_of(app, task.get("delivery_info")),
            worker_id=task.get("hostname"),
            max_retries=max_retries_of(app.tasks.get(name)),
        )
        return JobEvents(self._watch.connection_id, facts)
