"""Where a task goes on as another one under its id: `Task.replace`, which no signal tells of.

The other one is published at once, or later and elsewhere: as the last of a chain, or as what collects a group. What is
known of the job goes along: while the task replaces itself, in here; after that, in our header of each message that
leads to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

from celery import Task
from celery.utils.functional import maybe_list

from sluice_agent.signals.context import Sink, guarded
from sluice_agent.signals.header import CREATED_AT, REPLACEMENTS, replacements, successors
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.run import current_agent_header

_replaced: ContextVar[Mapping[str, dict[str, str]] | None] = ContextVar("sluice_agent_replaced", default=None)

_UNLOCKS_CHORD = "celery.chord_unlock"  # it has the chord's body among its arguments


def patch_replacements(sink: Sink) -> None:
    """Know of each task that replaces itself while what replaces it is published."""
    agent_header = guarded(sink, _agent_header)

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def on_replace(task: Task, *args: Any, **kwargs: Any) -> Any:
            replaced = dict(_replaced.get() or {})
            agent_header(task, replaced)
            token = _replaced.set(replaced)
            try:
                return original(task, *args, **kwargs)
            finally:
                _replaced.reset(token)

        return on_replace

    patch_method(Task, "on_replace", around, without="what replaces a task under its id is reported as created anew")


def expected_successors(agent_header: Mapping[str, str]) -> Mapping[str, dict[str, str]]:
    """What is known of jobs that are published here, or from here on, in place of others.

    `agent_header` is what our header said of the task that runs here.
    """
    replaced = _replaced.get()
    if replaced is None:
        return successors(agent_header) if agent_header else {}
    return {**successors(agent_header), **replaced}


def leads_to(name: str, body: Any, external_id: str) -> bool:
    """Whether this message, of task `name`, leads to the one of another job: as a part of its chain or chord.

    Task protocol 1 has a chain as callbacks within each other.
    """
    if name == _UNLOCKS_CHORD:
        return True
    embedded = body[2] if isinstance(body, (tuple, list)) and len(body) > 2 else body  # task protocols 2 and 1
    if not isinstance(embedded, Mapping):
        return False
    parts = (*(embedded.get("chain") or ()), embedded.get("chord"), *maybe_list(embedded.get("callbacks") or ()))
    return any(_holds(part, external_id) for part in parts)


def _agent_header(task: Task, replaced: dict[str, dict[str, str]]) -> None:
    known = current_agent_header(task)  # it is empty of tasks that are ignored
    agent_header = replaced[str(task.request.id)] = {REPLACEMENTS: str(replacements(vars(task.request), known) + 1)}
    if CREATED_AT in known:
        agent_header[CREATED_AT] = known[CREATED_AT]


def _holds(sig: Any, external_id: str) -> bool:
    """Whether a signature is of this job, or leads to it."""
    if not isinstance(sig, Mapping):
        return False
    options, kwargs = sig.get("options") or {}, sig.get("kwargs") or {}
    if str(options.get("task_id")) == external_id or _holds(options.get("chord"), external_id):
        return True
    if any(_holds(part, external_id) for part in maybe_list(options.get("link") or ())):
        return True
    match sig.get("subtask_type"):
        case "chord":
            return _holds(kwargs.get("body"), external_id)
        case "chain" | "group":
            return any(_holds(part, external_id) for part in kwargs.get("tasks") or ())
    return False
