"""Where a task goes on as another one under its id: `Task.replace`, which no signal tells of.

The other one is published at once, or later and elsewhere: as the last of a chain, or as what collects a group. So it
carries a note of ours from where the task replaces itself to where it is published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import Task

from sluice_agent.signals.header import CREATED_AT, HEADER, REPLACEMENTS, replacements
from sluice_agent.signals.listening import listen
from sluice_agent.signals.run import run_here
from sluice_agent.signals.watch import Watch, harmless


def watch_replacements(watch: Watch) -> None:
    """Hear what each task is replaced by, before it is published."""
    hear = harmless(watch, _leave_note)

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def on_replace(task: Task, sig: Any) -> Any:
            hear(task, sig)
            return original(task, sig)

        return on_replace

    listen(Task, "on_replace", around)


def _leave_note(task: Task, sig: Any) -> None:
    external_id = task.request.id
    successor = _successor(sig, external_id)
    if successor is None:
        return
    run = run_here(task, external_id)  # None: such tasks are ignored
    known = run.note if run is not None else {}
    note = {REPLACEMENTS: str(replacements(vars(task.request), known) + 1)}
    if CREATED_AT in known:
        note[CREATED_AT] = known[CREATED_AT]
    options = successor["options"]
    options["headers"] = {**(options.get("headers") or {}), HEADER: note}


def _successor(sig: Mapping[str, Any], external_id: str) -> Any:
    """The task within a signature that has the id; None where there is none."""
    kind = sig.get("subtask_type")
    if kind == "chord":
        return _successor(sig["kwargs"]["body"], external_id)
    if kind in ("chain", "group"):
        found = (_successor(part, external_id) for part in sig["kwargs"]["tasks"])
        return next((one for one in found if one is not None), None)
    return sig if sig["options"].get("task_id") == external_id else None
