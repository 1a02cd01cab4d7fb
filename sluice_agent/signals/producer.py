"""Events of a process that publishes tasks: one that calls them, beat, or a pool child in a retry or a chain.

`queued` is reported before the message is sent, since our header in the message claims that it has been. If sending
fails, or its result is unknown, that is reported too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from celery import Task
from celery._state import get_current_task
from celery.worker.request import Request

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents, PlainJobEvents
from sluice_agent.lifecycle.identity import publication_of
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_from_iso, timestamp_now
from sluice_agent.signals.agent_header import (
    CREATED_AT,
    PERIODIC_TASK,
    PRIORITY,
    PUBLISHED_AT,
    REPLACEMENTS,
    RUN,
    SUCCESSORS,
    replacements,
)
from sluice_agent.signals.captured_call import captured_call, options_of_call
from sluice_agent.signals.current_runs import current_agent_header, current_run
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.message_headers import facts_of, priority_of
from sluice_agent.signals.outcome import error_text
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.plain_publications import PlainPublications
from sluice_agent.signals.publish_hook import Publication, WaitingJob, patch_publishing
from sluice_agent.signals.published_for import call_for, periodic_task, retried
from sluice_agent.signals.queue_name import queue_of
from sluice_agent.signals.recorder import Recorder
from sluice_agent.signals.replacing import expected_successors, leads_to
from sluice_agent.signals.run import Run

NOT_PUBLISHED = "its producer failed or was interrupted while publishing it: it is unknown whether the broker has it"

_MIN_PARTS = 3  # headers, properties and body; Celery's own message has a fourth


class PublishingProcess:
    """Reporter of `queued` and `scheduled`, just before the message is sent to the broker."""

    def __init__(self, sink: Sink, recorder: Recorder, *, message_header: bool = True) -> None:
        self._sink = sink
        self._recorder = recorder
        self._message_header = message_header
        self._on_failure = guarded(sink, self.failed)
        self.plain = PlainPublications(sink, self._on_failure, message_header=message_header)

    def patch(self, agent_header_of: Callable[[Any], Mapping[str, str]]) -> None:
        """Patch the publishing of tasks. `agent_header_of` returns the agent header of a worker's request."""
        patch_publishing(self._sink, self.announce, self.plain.announce)

        def around(original: Callable[..., Any]) -> Callable[..., Any]:
            def _retry_worker_lost(request: Request, *args: Any, **kwargs: Any) -> Any:
                job = str(getattr(request, "id", "")), agent_header_of(request)
                return call_for(retried, job, original, request, *args, **kwargs)

            return _retry_worker_lost

        patch_method(
            Request,
            "_retry_worker_lost",
            around,
            without="a job that is published again, as its pool process was lost, is reported as created anew",
            is_new=True,  # in Celery 5.7
        )

    def announce(self, publication: Publication, exchange: str, routing_key: str) -> None:
        """Report `queued`, or `scheduled` if the ETA is in the future. The run that raises a retry reports it."""
        if publication.on_failure is not None:  # the first call was interrupted: the message is not sent
            return
        publication.on_failure = self._on_failure
        if not isinstance(publication.name, str) or len(publication.message) < _MIN_PARTS:
            return
        headers, properties, body = publication.message[:3]
        task = _task_headers(body, headers)
        if "id" not in task:
            return
        external_id = str(task["id"])
        current = get_current_task()
        retried_id, retried_header = retried.get() or ("", {})
        expected = expected_successors(current_agent_header(current) or retried_header)
        agent_header: dict[str, str] = {}
        if not self._sink.is_ignored(publication.name):
            when = timestamp_now()
            run = _run_to_be_retried(current, task)
            known = run.agent_header if run is not None else expected.get(external_id, {})
            if retried_id == external_id:
                known = retried_header
            agent_header = self._agent_header(task, properties, known, when)
            if run is not None:
                publication.reported = WaitingJob(None, when, run=run)
                self._recorder.record_published_retry(run, timestamp_from_iso(task.get("eta")))
            elif retried_id != external_id:
                delivery = {"exchange": exchange, "routing_key": routing_key}
                queue = queue_of(publication.app, delivery)
                with_run = {**agent_header, RUN: publication_of(external_id, when)}
                facts = facts_of(task, with_run, name=publication.name, queue=queue)
                self._report(publication, JobEvents(self._sink.connection_id, facts), task, agent_header, when)
        if expected:
            agent_header |= _successors(publication.name, body, external_id, expected)
        publication.agent_header = agent_header if self._message_header else None

    def failed(self, publication: Publication, error: BaseException) -> None:
        """Report `unknown`: the job was reported as waiting, and its message may not have been sent.

        The event has the time of publishing: if the message was sent, the worker's events follow it.
        """
        reported = publication.reported
        if reported is None:
            return
        if not isinstance(reported, WaitingJob):
            reported = WaitingJob(PlainJobEvents(*reported, run_name=""), reported[-1])
        if reported.run is not None:
            self._recorder.record_unpublished_retry(reported.run)
        if reported.events is not None:
            self._recorder.record_unpublished(reported.events, reported.when, error_text(error), NOT_PUBLISHED)

    def _agent_header(
        self, task: Mapping[str, Any], properties: Mapping[str, Any], known: Mapping[str, str], when: str
    ) -> dict[str, str]:
        """Return our header for a message. `known` is the one with which the job was published before."""
        agent_header = {CREATED_AT: known.get(CREATED_AT) or when}
        replaced = known.get(REPLACEMENTS)
        if not self._message_header and (nesting := replacements(task, {})):  # its worker has only Celery's count
            replaced = str(nesting)
        if replaced:
            agent_header |= {REPLACEMENTS: replaced, PUBLISHED_AT: when}
        if (priority := priority_of(properties.get("priority"))) is not None:
            agent_header[PRIORITY] = str(priority)
        if periodic := periodic_task.get():
            agent_header[PERIODIC_TASK] = periodic
        return agent_header

    def _report(
        self,
        publication: Publication,
        events: JobEvents,
        task: Mapping[str, Any],
        agent_header: Mapping[str, str],
        when: str,
    ) -> None:
        redact = self._sink.redact
        call = captured_call(redact, publication, task) if redact is not None else options_of_call(publication, task)
        publication.reported = WaitingJob(events, when, task["id"], agent_header[CREATED_AT])
        self._recorder.record_waiting(
            events,
            transitions.waiting(timestamp_from_iso(task.get("eta")), when),
            when,
            requeued=True if REPLACEMENTS in agent_header else None,  # the job waits again, now as its replacement
            **call,
        )

    def name_periodic_tasks(self, sender: Any, **_: Any) -> None:
        """In beat: keep the name of the schedule entry while its task is published. No signal has it."""
        scheduler = sender.scheduler
        apply = scheduler.apply_async

        @wraps(apply)
        def apply_async(*args: Any, **kwargs: Any) -> Any:
            entry = kwargs.get("entry", args[0] if args else None)
            return call_for(periodic_task, str(getattr(entry, "name", "")) or None, apply, *args, **kwargs)

        scheduler.apply_async = apply_async


def _run_to_be_retried(task: Task | None, message: Mapping[str, Any]) -> Run | None:
    """Return the run of `task` that publishes its own next attempt and has not ended yet; else None."""
    retries = message.get("retries")
    if not isinstance(retries, int) or not retries:
        return None
    run = current_run(task, message["id"])
    return run if run is not None and not run.has_ended and retries >= run.events.attempt else None


def _successors(name: str, body: Any, external_id: str, expected: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the member of our header for the `expected` jobs that a message of task `name` leads to; empty if none."""
    carried = {
        other: known for other, known in expected.items() if other != external_id and leads_to(name, body, other)
    }
    return {SUCCESSORS: json.dumps(carried)} if carried else {}


def _task_headers(body: Any, headers: dict[str, Any] | None) -> dict[str, Any]:
    """Return the task's headers: task protocol 1 has them in the body."""
    if headers and "id" in headers:
        return headers
    return body if isinstance(body, dict) else {}
