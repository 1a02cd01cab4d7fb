"""Handlers in a worker's main process: jobs received, jobs put back, and ends that a task process could not report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from celery import Celery, Task
from celery.exceptions import Reject, Retry
from celery.worker.request import Request

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import Extensions, JobEvents
from sluice_agent.lifecycle.identity import publication_of
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_from_iso, timestamp_now
from sluice_agent.model import JobState
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.header import CREATED_AT, PUBLISHED_AT, REPLACEMENTS, RUN
from sluice_agent.signals.message import facts_of, max_retries_of
from sluice_agent.signals.outcome import Outcome, is_reported, outcome_of
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.queue_name import queue_of
from sluice_agent.signals.received_requests import ReceivedRequests
from sluice_agent.signals.reported import ReportedVerdicts
from sluice_agent.signals.run import RunNames
from sluice_agent.signals.run_times import times_of
from sluice_agent.signals.task_process import TaskProcess

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MainProcess:
    """Reporter of `queued` if no producer did, of `queued` again, and of the ends that the main process announces."""

    def __init__(
        self,
        sink: Sink,
        task_process: TaskProcess,
        reported: ReportedVerdicts,
        names: RunNames,
        received: ReceivedRequests,
    ) -> None:
        self._sink = sink
        self._run_names = names
        self._task_process = task_process
        self._received = received
        self._reported = reported

    def patch_requeues(self) -> None:
        """Report each message that the worker sends back to its queue: no signal does."""
        handle = guarded(self._sink, self.report_once)

        def around(original: Callable[..., Any]) -> Callable[..., Any]:
            def reject(request: Request, *args: Any, **kwargs: Any) -> Any:
                goes_back = kwargs.get("requeue", args[0] if args else False)
                if goes_back and not getattr(request, "acknowledged", True):
                    handle(request, Outcome(transitions.REQUEUED), requeued=True)
                return original(request, *args, **kwargs)

            return reject

        patch_method(
            Request, "reject", around, without="a job that goes back to its queue is not reported as queued again"
        )

    def received(self, request: Any, **_: Any) -> None:
        """Name the run that is about to begin, and report `queued` if no producer has."""
        agent_header = self._received.keep(request)
        if self._sink.is_ignored(request.type):
            return
        task = request.request_dict
        by_producer = (PUBLISHED_AT if REPLACEMENTS in agent_header else CREATED_AT) in agent_header
        agent_header[RUN] = self._run_names.next(request.hostname)
        if not by_producer:
            # The time of publication is unknown: the run's name distinguishes publications under one id.
            publication = publication_of(str(request.id), agent_header[RUN])
            reported = self._events_of(request.app, task, {**agent_header, RUN: publication}, request.type)
            # Scheduled even if its ETA has passed while it waited: a monitor decides likewise.
            transition = transitions.waiting(timestamp_from_iso(task.get("eta")))
            requeued = True if REPLACEMENTS in agent_header else None
            self._sink.emit(reported.event(transition, timestamp_now(), requeued=requeued))

    def failure(self, sender: Task, task_id: str, exception: BaseException, einfo: Any = None, **more: Any) -> None:
        """Report `failed`, whichever process noticed it."""
        if isinstance(exception, Reject) or is_reported(exception):
            return  # Celery 5.7 reports a rejection as a failure too: it was reported as REJECTED
        if self._task_process.failure(sender=sender, task_id=task_id, exception=exception, einfo=einfo, **more):
            return
        outcome = outcome_of(transitions.FAILED, exception, einfo)
        if sender.request.id == task_id:
            agent_header = self._received.of_context(sender.request)
            self._report(sender.app, vars(sender.request), agent_header, sender.name, outcome)
        elif (request := self._received.request(task_id)) is not None:
            self._report(sender.app, request.request_dict, self._received.of_request(request), sender.name, outcome)

    def retry(self, sender: Task, request: Any, reason: Retry | None = None, einfo: Any = None, **more: Any) -> None:
        """Report `retrying`, whichever process noticed it. No reason: Celery has cancelled it, see `ColdShutdown`."""
        if reason is None or self._task_process.retry(
            sender=sender, request=request, reason=reason, einfo=einfo, **more
        ):
            return
        agent_header = self._received.of_context(request)
        self._report(
            sender.app, vars(request), agent_header, sender.name, outcome_of(transitions.RETRIED, reason, einfo)
        )

    def revoked(
        self,
        sender: Task,
        request: Any,
        terminated: bool = False,
        signum: Any = None,
        expired: bool = False,
        **_: Any,
    ) -> None:
        """Report `cancelled`."""
        self._report(
            sender.app,
            vars(request),
            self._received.of_context(request),
            sender.name,
            Outcome(transitions.REVOKED),
            terminated=terminated or None,
            signum=None if signum is None else f"{signum:d}" if isinstance(signum, int) else str(signum),
            expired=expired or None,
        )

    def unknown(self, sender: Any, message: Any, name: str, id: str, **_: Any) -> None:  # noqa: A002
        """Report `failed`: this worker has no such task."""
        task = {
            **(message.headers or {}),
            "id": id,
            "hostname": sender.hostname,
            "delivery_info": message.delivery_info,
        }
        error = Outcome(transitions.FAILED, error=f"NotRegistered: {name!r}")
        if "task" not in task and isinstance(message.payload, dict):  # task protocol 1
            task = {**message.payload, **task}
        self._report(sender.app, task, self._received.of_message(message), name, error)

    def malformed(self, sender: Any, message: Any, exc: BaseException | None = None, **_: Any) -> None:
        """Report `failed`: Celery can't run the message as a task. A message without an id is counted as dropped."""
        headers = message.headers if isinstance(message.headers, dict) else {}
        try:
            payload = message.payload
        except Exception:  # noqa: BLE001 - an unreadable payload may be why it was rejected
            payload = None
        task = {**payload, **headers} if isinstance(payload, dict) else headers
        external_id = task.get("id") or message.properties.get("correlation_id")
        if not external_id:
            self._sink.drop("malformed_message")
            return
        name = task.get("task")
        self._report(
            sender.app,
            {**task, "id": str(external_id), "hostname": sender.hostname, "delivery_info": message.delivery_info},
            self._received.of_message(message),
            name if isinstance(name, str) else "",
            Outcome(transitions.REJECTED, error=f"InvalidTaskError: {exc or 'the message names no task'}"),
        )

    def report_once(
        self,
        request: Any,
        outcome: Outcome,
        *,
        when: str | None = None,
        runtime: float | None = None,
        **extensions: Unpack[Extensions],
    ) -> None:
        """Report `outcome` of a job that this process has received, unless a verdict of its run is reported already."""
        task, agent_header = request.request_dict, self._received.of_request(request)
        if not self._reported.has_verdict(self._events_of(request.app, task, agent_header, request.type).facts):
            self._report(
                request.app, task, agent_header, request.type, outcome, when=when, runtime=runtime, **extensions
            )

    def _report(
        self,
        app: Celery,
        task: Mapping[str, Any],
        agent_header: Mapping[str, str],
        name: str,
        outcome: Outcome,
        *,
        when: str | None = None,
        runtime: float | None = None,
        **extensions: Unpack[Extensions],
    ) -> None:
        if self._sink.is_ignored(name):
            return
        reported = self._events_of(app, task, agent_header, name)
        facts = reported.facts
        if self._reported.is_reported(facts, outcome.state):  # Celery 5.7 fires some verdicts twice
            return
        if outcome.state is JobState.FAILED and self._reported.is_reported(facts, JobState.QUEUED):
            return  # 5.7 announces this of a job that it has put back at its time limit: it runs again
        extensions.setdefault("eta", outcome.eta)
        started, ended = times_of(self._received.request(facts.external_id))
        self._sink.emit(
            reported.event(
                outcome.transition,
                when or ended,
                started=started,
                error=outcome.error,
                stacktrace=outcome.stacktrace,
                runtime=runtime,
                **extensions,
            )
        )
        self._reported.mark_reported(facts, outcome.state)

    def _events_of(self, app: Celery, task: Mapping[str, Any], agent_header: Mapping[str, str], name: str) -> JobEvents:
        facts = facts_of(
            task,
            agent_header,
            name=name,
            queue=queue_of(app, task.get("delivery_info")),
            worker_id=task.get("hostname"),
            max_retries=max_retries_of(app.tasks.get(name)),
        )
        return JobEvents(self._sink.connection_id, facts)
