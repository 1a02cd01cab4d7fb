"""The one message header of ours: from the producer to the worker, and from the worker's main process to its child.

A producer writes when the job was created; that it is there says that the producer has told `queued`. The worker's main
process adds the name of the execution to its own copy. The task never sees it. A task that goes on as another one
leaves a note on that one, wherever it stands in what is published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

from sluice_agent.translation import is_timestamp

HEADER = "sluice_agent"

CREATED_AT = "createdAt"
PERIODIC_TASK = "periodicTask"
PRIORITY = "priority"
PUBLISHED_AT = "publishedAt"
"""When a replacement was published, which its job was created before; that it is there says that it has been told."""
REPLACEMENTS = "replacements"
"""How many tasks this one has replaced under its id. Celery's own count includes those of others in a chain."""
RUN = "run"

is_count = re.compile("[0-9]{1,9}").fullmatch
"""Whether a text is a number as we write it: one of thousands of digits is more than Python makes a number of."""

_FORMS = {CREATED_AT: is_timestamp, PUBLISHED_AT: is_timestamp, REPLACEMENTS: is_count}


def written(headers: Mapping[str, Any]) -> dict[str, str]:
    """What our header says; empty where there is none, or where somebody else uses its name."""
    note = headers.get(HEADER)
    if note is None:  # task protocol 1 keeps a message's headers apart from the task's
        beside = headers.get("headers")
        note = beside.get(HEADER) if isinstance(beside, dict) else None
    if not isinstance(note, dict):
        return {}
    return {
        key: value
        for key, value in note.items()
        if isinstance(value, str) and (key not in _FORMS or _FORMS[key](value))
    }


def replacements(headers: Mapping[str, Any], note: Mapping[str, str]) -> int:
    """How often the job of a message has replaced its task by another one, by our `note`, or else by Celery's count."""
    if REPLACEMENTS in note:
        return int(note[REPLACEMENTS])
    nesting = 0 if CREATED_AT in note else headers.get("replaced_task_nesting")
    return nesting if type(nesting) is int and nesting > 0 else 0


def taken(request: MutableMapping[str, Any]) -> dict[str, str]:
    """What our header says, after taking it away from a task's request, where the task could meet it."""
    note = request.pop(HEADER, None)
    custom = request.get("headers")
    if isinstance(custom, dict):
        beside = custom.pop(HEADER, None)
        note = note or beside
        request["headers"] = custom or None
    if type(note) is dict and RUN in note:  # from our own main process, which has looked at it
        return note
    return written({HEADER: note})
