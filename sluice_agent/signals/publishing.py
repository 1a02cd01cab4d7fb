"""Where tasks are published: any process that calls one, a pool child that retries or continues a chain, and beat."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any

from celery import current_app
from celery._state import get_current_task

from sluice_agent.identity import publication_of
from sluice_agent.model import JobState
from sluice_agent.signals.claims import note_reported
from sluice_agent.signals.facts import facts_of
from sluice_agent.signals.header import (
    CREATED_AT,
    HEADER,
    PERIODIC_TASK,
    PRIORITY,
    PUBLISHED_AT,
    REPLACEMENTS,
    RUN,
    written,
)
from sluice_agent.signals.queues import queue_of
from sluice_agent.signals.run import Run, run_here
from sluice_agent.signals.watch import Watch
from sluice_agent.translation import JobEvents, now, timestamp_of

_periodic_task: ContextVar[str | None] = ContextVar("sluice_agent_periodic_task", default=None)


class Publishing:
    """`queued` and `scheduled`, told once the broker has the message."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._latest_note: dict[str, str] = {}

    def before_publish(
        self,
        sender: str,
        body: Any,
        headers: dict[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write into the message, where its worker finds it, when the job was created."""
        task = _task_headers(body, headers)
        if headers is None or "id" not in task or self._watch.is_ignored(sender):
            return
        when = now()
        run = _run_to_be_retried(task)
        known: Mapping[str, str] = {}
        if run is not None:
            run.published_at = run.now()
            known = run.note
        elif HEADER in headers:  # what replaces a task, or the main process publishes a retry for a child that it lost
            known = written(headers)
        note = self._latest_note = headers[HEADER] = {CREATED_AT: known.get(CREATED_AT) or when}
        if REPLACEMENTS in known:
            note |= {REPLACEMENTS: known[REPLACEMENTS], PUBLISHED_AT: when}
        if (priority := (properties or {}).get("priority")) is not None:
            note[PRIORITY] = str(priority)
        if periodic := _periodic_task.get():
            note[PERIODIC_TASK] = periodic

    def after_publish(self, sender: str, body: Any, headers: dict[str, Any] | None = None, **delivery: Any) -> None:
        """Tell `queued`, or `scheduled` where the job is not to start yet. A retry is told where it is raised."""
        task = _task_headers(body, headers)
        note = headers and headers.get(HEADER)
        if note is not self._latest_note:  # another thread has published meanwhile, or somebody else wrote it
            note = written(headers or {})
        if CREATED_AT not in note or task.get("retries"):
            return
        when = note.get(PUBLISHED_AT) or note[CREATED_AT]
        note_reported(task["id"], note[CREATED_AT])
        publication = {**note, RUN: publication_of(str(task["id"]), when)}
        facts = facts_of(task, publication, name=sender, queue=queue_of(current_app, delivery))
        redact = self._watch.redact
        arguments = {name: redact(name, value) for name, value in _arguments(body).items()} if redact else {}
        self._watch.emit(
            JobEvents(self._watch.connection_id, facts).event(
                _waiting_state(task, when),
                "PENDING",
                when,
                requeued=True if REPLACEMENTS in note else None,  # the job waits again, now as what replaces it
                **arguments,
            )
        )

    def name_periodic_tasks(self, sender: Any, **_: Any) -> None:
        """In beat: remember whose turn it is while its task is published. No signal says it."""
        scheduler = sender.scheduler
        apply = scheduler.apply_async

        @wraps(apply)
        def apply_async(entry: Any, *args: Any, **kwargs: Any) -> Any:
            token = _periodic_task.set(str(entry.name))
            try:
                return apply(entry, *args, **kwargs)
            finally:
                _periodic_task.reset(token)

        scheduler.apply_async = apply_async


def _waiting_state(task: Mapping[str, Any], when: str) -> JobState:
    """The state of a job that waits, at the time `when`."""
    eta = task.get("eta") and timestamp_of(task["eta"])
    return JobState.SCHEDULED if eta and eta > when else JobState.QUEUED


def _run_to_be_retried(task: Mapping[str, Any]) -> Run | None:
    """The execution that publishes its own job, as its retry."""
    return run_here(get_current_task(), task["id"]) if task.get("retries") else None


def _task_headers(body: Any, headers: dict[str, Any] | None) -> dict[str, Any]:
    """The task's own headers: task protocol 1 has them in the body."""
    if headers and "id" in headers:
        return headers
    return body if isinstance(body, dict) else {}


def _arguments(body: Any) -> dict[str, Any]:
    if isinstance(body, dict):
        return {"args": body.get("args"), "kwargs": body.get("kwargs")}
    return {"args": body[0], "kwargs": body[1]} if isinstance(body, (tuple, list)) and len(body) > 1 else {}
