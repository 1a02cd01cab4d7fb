"""From a task message's headers to the facts of a job: as it is published, received or run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery import Task

from sluice_agent.lifecycle.bounded import Limits, bounded
from sluice_agent.lifecycle.encoding import JobExtensions, JobFacts, job_id
from sluice_agent.lifecycle.identity import parent_of
from sluice_agent.lifecycle.timestamps import timestamp_from_iso
from sluice_agent.model import encode
from sluice_agent.signals.agent_header import CREATED_AT, PERIODIC_TASK, PRIORITY, PROCESS, RUN, is_count, replacements

_STAMP_LIMITS = Limits(text=1_000, items=50, depth=6, total=10_000)
MAX_PRIORITY = 2**31 - 1  # brokers use a few bits; Python refuses to print an integer of thousands of digits
_MAX_RETRIES = 2**31 - 1  # receivers of events may count in 32 bits

RARE_HEADERS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    # headers that most tasks leave empty: the name in our extensions, and the function that converts the value
    "group": ("groupId", job_id),
    "eta": ("eta", timestamp_from_iso),
    "expires": ("expires", timestamp_from_iso),
    "stamps": ("stamps", lambda stamps: _plain_stamps(stamps) if isinstance(stamps, dict) else None),
    "is_eager": ("eager", bool),
    "periodic_task_name": ("periodicTask", str),  # django-celery-beat's
}


def facts_of(
    headers: Mapping[str, Any],
    agent_header: Mapping[str, str],
    *,
    name: str,
    queue: str | None,
    worker_id: str | None = None,
    max_retries: int | None = None,
) -> JobFacts:
    """Return the facts in `headers` (of a message, or of a request made from it) and in our `agent_header`."""
    get = headers.get
    external_id = str(headers["id"])  # one that a caller chooses may be a number or a UUID
    extensions: JobExtensions = {"rootId": job_id(get("root_id") or external_id)}
    if parent_id := parent_of(external_id, get("parent_id")):
        extensions["parentId"] = job_id(parent_id)
    if any(map(get, RARE_HEADERS)):
        for header, (extension, convert) in RARE_HEADERS.items():
            if value := get(header):
                extensions[extension] = convert(value)  # type: ignore[literal-required]
    delivery = get("delivery_info")
    if isinstance(delivery, dict) and delivery:
        priority = delivery.get("priority")
        if delivery.get("redelivered"):
            extensions["redelivered"] = True
    else:
        priority = agent_header.get(PRIORITY)
    if priority is not None:
        extensions["priority"] = priority_of(priority)
    if PERIODIC_TASK in agent_header:
        extensions["periodicTask"] = agent_header[PERIODIC_TASK]
    shadow = get("shadow")
    if shadow and shadow != name and isinstance(shadow, str):
        name, extensions["taskName"] = shadow, name
    replaced = replacements(headers, agent_header)
    run = agent_header.get(RUN, "")
    return JobFacts(
        external_id,
        name,
        _attempt(get("retries")),
        queue,
        worker_id,
        max_retries,
        agent_header.get(CREATED_AT),
        f"{run}+{replaced}" if replaced else run,
        extensions,
        process=agent_header.get(PROCESS, ""),
    )


def _attempt(retries: Any) -> int:
    return retries + 1 if type(retries) is int and 0 <= retries < _MAX_RETRIES else 1


def _plain_stamps(stamps: dict[Any, Any]) -> dict[str, Any]:
    """Return `stamps` unchanged if they are small and plain, else bounded: pickle carries any object."""
    try:
        if len(encode(stamps)) <= _STAMP_LIMITS.total:
            return stamps
    except (TypeError, ValueError, RecursionError):
        pass
    small: dict[str, Any] = bounded(stamps, _STAMP_LIMITS)
    return small


def priority_of(value: Any) -> int | None:
    """Return the priority of a message or of our header, or None: other clients may write anything to either."""
    if isinstance(value, str):
        return int(value) if is_count(value) else None
    return value if type(value) is int and abs(value) <= MAX_PRIORITY else None


def max_retries_of(task: Task | None) -> int | None:
    """Return how often `task` is retried at most; None if there is no limit, or it is unknown."""
    options = getattr(task, "retry_kwargs", None)  # of autoretry
    limit = options.get("max_retries") if options else None
    if limit is None:
        limit = getattr(task, "max_retries", None)
    return limit if type(limit) is int and limit >= 0 else None
