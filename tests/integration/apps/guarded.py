"""An app that searches all that Celery passes to it for traces of the agent; it connects before the agent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from celery import Task, chain, chord, group, signals

HEADER = "sluice_agent"
FOUND = Path(os.environ["FOUND"])


def search(source: str, *values: Any) -> None:
    """Write a line for each value: `clean`, or its text if it contains a trace of the agent."""
    for value in values:
        text = f"{value!r} {sorted(vars(value)) if hasattr(value, '__dict__') else ''}"
        with FOUND.open("a") as file:
            file.write(f"{source}: {text}\n" if "_sluice" in text or f"'{HEADER}'" in text else f"{source}: clean\n")


def _search_signal(signal: Any, sender: Any = None, **arguments: Any) -> None:
    request = arguments.get("request")
    message = arguments.get("message") or getattr(request, "message", None)
    values = [arguments.get("headers"), arguments.get("body"), arguments.get("properties")]
    values += [vars(request) if hasattr(request, "__dict__") else None, getattr(request, "request_dict", None)]
    values += [message and message.headers, getattr(arguments.get("task") or sender, "request", None)]
    search(signal.name, *(value for value in values if value is not None))


for signal in (
    signals.before_task_publish,
    signals.after_task_publish,
    signals.task_received,
    signals.task_prerun,
    signals.task_postrun,
    signals.task_success,
    signals.task_retry,
    signals.task_failure,
    signals.task_revoked,
    signals.task_unknown,
    signals.task_rejected,
):
    signal.connect(_search_signal, weak=False)

from tests.integration.tasks import app, replace_self_by_chain, replace_self_by_group, shared_task  # noqa: E402 - after the handlers above

__all__ = ["app", "replace_self_by_chain", "replace_self_by_group"]


@shared_task(bind=True, max_retries=1)
def searches(self: Task, *_: Any, retries: int = 0) -> None:
    """Search the request, be retried, and search again."""
    search("request", self.request, self.request.headers, self.request.chain, self.request.chord)
    if self.request.retries < retries:
        raise self.retry(countdown=0)


@shared_task(bind=True)
def becomes(self: Task, kind: str) -> Any:
    """Continue as a task, a chain or a chord, whose parts search too."""
    search("request", self.request)
    task = searches.si()
    return self.replace({"task": task, "chain": chain(task, task, task), "chord": chord(group(task, task), task)}[kind])


@shared_task(bind=True)
def fails(self: Task) -> None:
    """Search, then raise."""
    search("request", self.request)
    raise ValueError("on purpose")


def send_everything() -> str:
    """Publish the searching tasks in all ways; return the id of the job that ends last."""
    searches.delay(retries=1)
    for kind in ("task", "chain", "chord"):
        becomes.delay(kind)
    fails.delay()
    app.send_task("no.such.task")
    searches.apply_async(expires=-1)
    group(searches.si(), searches.si())()
    return str(
        chain(searches.si(), chord([searches.si(), searches.si()], searches.si()), searches.si()).apply_async().id
    )
