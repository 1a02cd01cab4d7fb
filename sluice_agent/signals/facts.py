"""From a task message's headers to the facts of a job, wherever the message is met: published, received or running."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import Task

from sluice_agent.signals.header import CREATED_AT, PERIODIC_TASK, PRIORITY, RUN, is_count, replacements
from sluice_agent.translation import JobFacts, timestamp_of

_SELDOM: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    # headers that most tasks leave empty, their names in our extensions, and how they are written there
    "group": ("groupId", str),
    "eta": ("eta", timestamp_of),
    "expires": ("expires", timestamp_of),
    "stamps": ("stamps", lambda stamps: stamps if isinstance(stamps, dict) else None),
    "is_eager": ("eager", bool),
    "periodic_task_name": ("periodicTask", str),  # django-celery-beat's
}


def facts_of(
    headers: Mapping[str, Any],
    note: Mapping[str, str],
    *,
    name: str,
    queue: str | None,
    worker_id: str | None = None,
    max_retries: int | None = None,
) -> JobFacts:
    """The facts in `headers` (a message's, or a request made from them) and in `note`, our own header."""
    get = headers.get
    external_id = str(headers["id"])  # a caller's own may be a number or a UUID
    extensions: dict[str, Any] = {"rootId": get("root_id") or external_id}
    parent_id = get("parent_id")
    if parent_id and str(parent_id) != external_id:  # Celery makes a job the parent of its own retry
        extensions["parentId"] = parent_id
    if any(map(get, _SELDOM)):
        for header, (extension, form) in _SELDOM.items():
            if value := get(header):
                extensions[extension] = form(value)
    delivery = get("delivery_info")
    priority = delivery.get("priority") if delivery else note.get(PRIORITY)
    if isinstance(priority, str):  # from our own header, which somebody else may have written
        priority = int(priority) if is_count(priority) else None
    if priority is not None:
        extensions["priority"] = priority
    if delivery and delivery.get("redelivered"):
        extensions["redelivered"] = True
    if PERIODIC_TASK in note:
        extensions["periodicTask"] = note[PERIODIC_TASK]
    shadow = get("shadow")
    if shadow and shadow != name:
        extensions["taskName"] = name
    replaced = replacements(headers, note)
    run = note.get(RUN, "")
    return JobFacts(
        external_id,
        shadow or name,
        (get("retries") or 0) + 1,
        queue,
        worker_id,
        max_retries,
        note.get(CREATED_AT),
        f"{run}+{replaced}" if replaced else run,
        extensions,
    )


def max_retries_of(task: Task | None) -> int | None:
    """How often `task` is retried at the most; None: without end, or nobody knows."""
    options = getattr(task, "retry_kwargs", None)  # of autoretry
    most = options.get("max_retries") if options else None
    if most is None:
        most = getattr(task, "max_retries", None)
    return most if type(most) is int and most >= 0 else None
