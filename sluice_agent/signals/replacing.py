"""Replacements: a job goes on as another task under its id, by `Task.replace`. Celery has no signal for it.

The other task is published at once, or later and elsewhere: as the last of a chain, or as the body of a chord. The
agent header of the job is passed on: in this module while the task replaces itself; after that, in the agent header of
each message that leads to the replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import Task
from celery.utils.functional import maybe_list

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.agent_header import CREATED_AT, REPLACEMENTS, SUCCESSORS, replacements, successors
from sluice_agent.signals.current_runs import current_agent_header
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.published_for import call_for, replaced

_UNLOCK_CHORD = "celery.chord_unlock"  # its arguments contain the chord's body


def patch_replacements(sink: Sink) -> None:
    """Keep the agent header of each task that replaces itself, while its replacement is published."""
    agent_header = guarded(sink, _agent_header)

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def on_replace(task: Task, *args: Any, **kwargs: Any) -> Any:
            headers = dict(replaced.get() or {})
            agent_header(task, headers)
            return call_for(replaced, headers, original, task, *args, **kwargs)

        return on_replace

    patch_method(Task, "on_replace", around, without="the replacement of a task is reported as newly created")


def expected_successors(agent_header: Mapping[str, str]) -> Mapping[str, dict[str, str]]:
    """Return the agent headers of the replacements that are published here, or by messages from here, by job id.

    `agent_header` is that of the task that runs here.
    """
    headers = replaced.get()
    if headers is None:
        return successors(agent_header) if SUCCESSORS in agent_header else {}
    return {**successors(agent_header), **headers}


def leads_to(name: str, body: Any, external_id: str) -> bool:
    """Return whether this message, of task `name`, leads to another job: that is a later part of its chain or chord.

    Task protocol 1 stores a chain as nested callbacks.
    """
    if name == _UNLOCK_CHORD:
        return True
    embedded = body[2] if isinstance(body, (tuple, list)) and len(body) > 2 else body  # task protocols 2 and 1
    if not isinstance(embedded, Mapping):
        return False
    parts = (*(embedded.get("chain") or ()), embedded.get("chord"), *maybe_list(embedded.get("callbacks") or ()))
    return any(_contains(part, external_id) for part in parts)


def _agent_header(task: Task, headers: dict[str, dict[str, str]]) -> None:
    known = current_agent_header(task)  # empty for a task that is ignored
    agent_header = headers[str(task.request.id)] = {REPLACEMENTS: str(replacements(vars(task.request), known) + 1)}
    if CREATED_AT in known:
        agent_header[CREATED_AT] = known[CREATED_AT]


def _contains(signature: Any, external_id: str) -> bool:
    """Return whether a signature is that of this job, or leads to it."""
    if not isinstance(signature, Mapping):
        return False
    options, kwargs = signature.get("options") or {}, signature.get("kwargs") or {}
    if str(options.get("task_id")) == external_id or _contains(options.get("chord"), external_id):
        return True
    if any(_contains(part, external_id) for part in maybe_list(options.get("link") or ())):
        return True
    match signature.get("subtask_type"):
        case "chord":
            return _contains(kwargs.get("body"), external_id)
        case "chain" | "group":
            return any(_contains(part, external_id) for part in kwargs.get("tasks") or ())
    return False
