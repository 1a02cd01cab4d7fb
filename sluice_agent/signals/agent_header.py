"""The agent header: our one message header, from the producer to the worker, and from its main to its task process.

A producer writes when the job was created; the presence of that means that the producer has reported `queued`. The
worker's main process removes the header from the message, adds the name of the run and hands both to the task process
beside the request: no task and no receiver ever sees it. See `received_requests` and `header_handover`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from sluice_agent.lifecycle.timestamps import is_timestamp

HEADER = "sluice_agent"

CREATED_AT = "createdAt"
HEAD, MEMBERS = "head", "members"
"""What the events of a plain job share, from the main process; never in a message: see `plain_jobs`."""
PERIODIC_TASK = "periodicTask"
PRIORITY = "priority"
PROCESS = "process"
"""The number of the pool process that executes the run; never in a message: see `identity.run_in`."""
PUBLISHED_AT = "publishedAt"
"""When a replacement was published, later than its job was created; its presence means that this was reported."""
REPLACEMENTS = "replacements"
"""The number of tasks that this one has replaced under its id. Celery's count includes those of others in a chain."""
RUN = "run"
"""The name of the run, from the main process; never in a message."""
SUCCESSORS = "successors"
"""The agent headers of jobs that are published later and elsewhere, by their ids, as JSON: see `replacing`."""

OF_ONE_RUN = (RUN, PROCESS, HEAD, MEMBERS)
"""The members that a worker adds, which would be wrong for any other run."""

is_count = re.compile("[0-9]{1,9}").fullmatch
"""Match a number as we write it: Python refuses to convert a text of thousands of digits."""

_FORMS = {CREATED_AT: is_timestamp, PUBLISHED_AT: is_timestamp, REPLACEMENTS: is_count}


def read_header(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return the members of the agent header; empty if it is absent, or if another library uses its name."""
    agent_header = headers.get(HEADER)
    if agent_header is None:  # task protocol 1 keeps a message's headers apart from the task's
        custom = headers.get("headers")
        agent_header = custom.get(HEADER) if isinstance(custom, dict) else None
    return _sound_members(agent_header)


def received_header(agent_header: Any) -> dict[str, str]:
    """Return the members of an agent header that a worker receives, but for those of one run: it adds these anew."""
    if type(agent_header) is dict and len(agent_header) == 1 and CREATED_AT in agent_header:  # most have no more
        created_at = agent_header[CREATED_AT]
        if type(created_at) is str and is_timestamp(created_at):
            return {CREATED_AT: created_at}
    return {name: value for name, value in _sound_members(agent_header).items() if name not in OF_ONE_RUN}


def _sound_members(agent_header: Any) -> dict[str, str]:
    if not isinstance(agent_header, dict):
        return {}
    return {
        key: value
        for key, value in agent_header.items()
        if isinstance(value, str) and (key not in _FORMS or _FORMS[key](value))
    }


def replacements(headers: Mapping[str, Any], agent_header: Mapping[str, str]) -> int:
    """Return how often a job has replaced its task by another one, from `agent_header`, or else from Celery's count."""
    if REPLACEMENTS in agent_header:
        return int(agent_header[REPLACEMENTS])
    nesting = 0 if CREATED_AT in agent_header else headers.get("replaced_task_nesting")
    return nesting if type(nesting) is int and nesting > 0 else 0


def successors(agent_header: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the agent headers that `agent_header` carries for other jobs, by their ids."""
    try:
        carried = json.loads(agent_header.get(SUCCESSORS, "{}"))
    except ValueError:
        return {}
    if not isinstance(carried, dict):
        return {}
    return {external_id: read_header({HEADER: inner}) for external_id, inner in carried.items()}


def pop_last(items: dict[str, Any], name: str) -> Any:
    """Remove the item `name`, which was added last, and return its value; None if it is absent.

    Where another item is removed than the last, Python leaves a hole, and each copy of the dictionary takes four times
    as long.
    """
    if name not in items:
        return None
    last, value = items.popitem()
    if last == name:
        return value
    items[last] = value
    return items.pop(name)
