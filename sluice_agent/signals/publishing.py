"""Where tasks are published: any process that calls one, a pool child that retries or continues a chain, and beat."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from functools import wraps
from typing import Any

from celery import current_app
from celery._state import get_current_task

from sluice_agent.model import JobState
from sluice_agent.signals.facts import facts_of
from sluice_agent.signals.header import CREATED_AT, HEADER, PERIODIC_TASK, PRIORITY, written
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
        run = _run_that_goes_on(task)
        if run is not None:
            run.published_at = when
            created_at = run.told.facts.created_at
        elif HEADER in headers:  # the main process publishes a retry for a child that it lost
            created_at = written(headers).get(CREATED_AT)
        else:
            created_at = None
        note = self._latest_note = headers[HEADER] = {CREATED_AT: created_at or when}
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
        run = _run_that_goes_on(task)
        when = (run and run.published_at) or note[CREATED_AT]
        facts = facts_of(task, note, name=sender, queue=queue_of(current_app, delivery))
        redact = self._watch.redact
        arguments = {name: redact(name, value) for name, value in _arguments(body).items()} if redact else {}
        self._watch.emit(
            JobEvents(self._watch.connection_id, facts).event(
                waiting_state(task, when),
                "PENDING",
                when,
                requeued=True if run else None,  # a job that publishes itself waits again, now as what replaces it
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


def waiting_state(task: Mapping[str, Any], when: str) -> JobState:
    """The state of a job that waits, at the time `when`."""
    eta = task.get("eta") and timestamp_of(task["eta"])
    return JobState.SCHEDULED if eta and eta > when else JobState.QUEUED


def _run_that_goes_on(task: Mapping[str, Any]) -> Run | None:
    """The execution that publishes its own job: as its retry, or as what it is replaced by."""
    if task.get("retries") or task.get("replaced_task_nesting", True):  # task protocol 1 does not count the latter
        return run_here(get_current_task(), task["id"])
    return None


def _task_headers(body: Any, headers: dict[str, Any] | None) -> dict[str, Any]:
    """The task's own headers: task protocol 1 has them in the body."""
    if headers and "id" in headers:
        return headers
    return body if isinstance(body, dict) else {}


def _arguments(body: Any) -> dict[str, Any]:
    if isinstance(body, dict):
        return {"args": body.get("args"), "kwargs": body.get("kwargs")}
    return {"args": body[0], "kwargs": body[1]} if isinstance(body, (tuple, list)) and len(body) > 1 else {}
