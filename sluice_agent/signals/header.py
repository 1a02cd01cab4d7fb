"""The one message header of ours: from the producer to the worker, and from the worker's main process to its child.

A producer writes when the job was created; that it is there says that the producer has reported `queued`. The worker's
main process takes it off the message, adds the name of the execution and hands both to its child, which takes them off
as well: a task and every receiver meets nothing of it. See `received` and `handed`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from sluice_agent.timestamps import is_timestamp

HEADER = "sluice_agent"

CREATED_AT = "createdAt"
PERIODIC_TASK = "periodicTask"
PRIORITY = "priority"
PROCESS = "process"
"""The number of the pool's process that executes the run; in no message: see `identity.run_in`."""
PUBLISHED_AT = "publishedAt"
"""When a replacement was published, which its job was created before; that it is there says that it has been told."""
REPLACEMENTS = "replacements"
"""How many tasks this one has replaced under its id. Celery's own count includes those of others in a chain."""
RUN = "run"
SUCCESSORS = "successors"
"""The headers of jobs that are published later and elsewhere, by their ids, as JSON: see `replacing`."""

is_count = re.compile("[0-9]{1,9}").fullmatch
"""Whether a text is a number as we write it: one of thousands of digits is more than Python makes a number of."""

_FORMS = {CREATED_AT: is_timestamp, PUBLISHED_AT: is_timestamp, REPLACEMENTS: is_count}


def read_header(headers: Mapping[str, Any]) -> dict[str, str]:
    """What our header says; empty where there is none, or where somebody else uses its name."""
    agent_header = headers.get(HEADER)
    if agent_header is None:  # task protocol 1 keeps a message's headers apart from the task's
        beside = headers.get("headers")
        agent_header = beside.get(HEADER) if isinstance(beside, dict) else None
    if not isinstance(agent_header, dict):
        return {}
    return {
        key: value
        for key, value in agent_header.items()
        if isinstance(value, str) and (key not in _FORMS or _FORMS[key](value))
    }


def replacements(headers: Mapping[str, Any], agent_header: Mapping[str, str]) -> int:
    """Return how often a job has replaced its task by another one, by our `agent_header`, or else by Celery's count."""
    if REPLACEMENTS in agent_header:
        return int(agent_header[REPLACEMENTS])
    nesting = 0 if CREATED_AT in agent_header else headers.get("replaced_task_nesting")
    return nesting if type(nesting) is int and nesting > 0 else 0


def successors(agent_header: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The headers that `agent_header` carries for others, by their ids."""
    try:
        carried = json.loads(agent_header.get(SUCCESSORS, "{}"))
    except ValueError:
        return {}
    if not isinstance(carried, dict):
        return {}
    return {external_id: read_header({HEADER: inner}) for external_id, inner in carried.items()}


def pop_header(headers: dict[str, Any]) -> dict[str, str] | None:
    """What our header says, after taking it out of `headers`; None where there is none."""
    agent_header = headers.pop(HEADER, None)
    custom = headers.get("headers")
    if type(custom) is dict and HEADER in custom:  # task protocol 1
        headers["headers"] = {name: value for name, value in custom.items() if name != HEADER}
        agent_header = custom[HEADER] if agent_header is None else agent_header
    if agent_header is None:
        return None
    if type(agent_header) is dict and RUN in agent_header:  # from our own main process, which has looked at it
        return agent_header
    return read_header({HEADER: agent_header})
