"""Handlers in a worker's main process: jobs received, jobs put back, and ends of jobs that no process executes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery import Task
from celery.worker.request import Request

from sluice_agent.attempt_message import HEADER
from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import Extensions
from sluice_agent.lifecycle.identity import publication_of
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_from_iso, timestamp_now
from sluice_agent.signals.agent_header import CREATED_AT, PUBLISHED_AT, REPLACEMENTS, RUN
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.outcome import Outcome
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.received_requests import ReceivedRequests
from sluice_agent.signals.received_runs import ReceivedRuns
from sluice_agent.signals.recorder import Recorder
from sluice_agent.signals.run import ReceivedRun
from sluice_agent.signals.run_names import RunNames

if TYPE_CHECKING:
    from typing_extensions import Unpack


class MainProcess:
    """Reporter of `queued` if no producer did, of `queued` again, and of the ends that the main process announces."""

    def __init__(
        self,
        sink: Sink,
        recorder: Recorder,
        names: RunNames,
        requests: ReceivedRequests,
        runs: ReceivedRuns,
    ) -> None:
        self._sink = sink
        self._recorder = recorder
        self._run_names = names
        self._requests = requests
        self._runs = runs

    def patch_requeues(self) -> None:
        """Report each message that the worker sends back to its queue: no signal does."""
        handle = guarded(self._sink, self.report_unannounced)

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
        agent_header = self._requests.keep(request)
        if self._sink.is_ignored(request.type):
            return
        task = request.request_dict
        by_producer = (PUBLISHED_AT if REPLACEMENTS in agent_header else CREATED_AT) in agent_header
        agent_header[RUN] = self._run_names.next(request.hostname)
        if not by_producer and HEADER not in task:  # an attempt of the jobs API waits in its server's database
            # The time of publication is unknown: the run's name distinguishes publications under one id.
            publication = publication_of(str(request.id), agent_header[RUN])
            events = self._runs.events_of(request.app, task, {**agent_header, RUN: publication}, request.type)
            # Scheduled even if its ETA has passed while it waited: a monitor decides likewise.
            transition = transitions.waiting(timestamp_from_iso(task.get("eta")))
            requeued = True if REPLACEMENTS in agent_header else None
            self._recorder.record_waiting(events, transition, timestamp_now(), requeued=requeued)

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
            self._runs.of_context(sender, request),
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
        self._report(self._runs.of_fields(sender.app, task, self._requests.of_message(message), name), error)

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
        run = self._runs.of_fields(
            sender.app,
            {**task, "id": str(external_id), "hostname": sender.hostname, "delivery_info": message.delivery_info},
            self._requests.of_message(message),
            name if isinstance(name, str) else "",
        )
        error = f"InvalidTaskError: {exc or 'the message names no task'}"
        self._report(run, Outcome(transitions.REJECTED, error=error))

    def report_unannounced(
        self,
        request: Any,
        outcome: Outcome,
        *,
        when: str | None = None,
        runtime: float | None = None,
        **extensions: Unpack[Extensions],
    ) -> None:
        """Record the end of a worker's `request` that no signal announces: see `Report`."""
        run = self._runs.of_request(request)
        if run is not None:
            self._recorder.record_unannounced_end(run, outcome, when=when, runtime=runtime, **extensions)

    def _report(self, run: ReceivedRun | None, outcome: Outcome, **extensions: Unpack[Extensions]) -> None:
        if run is not None:
            self._recorder.record_announced_end(run, outcome, **extensions)
