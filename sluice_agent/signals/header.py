"""The one message header of ours: from the producer to the worker, and from the worker's main process to its child.

A producer writes when the job was created; that it is there says that the producer has told `queued`. The worker's main
process adds the name of the execution to its own copy. The task never sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from sluice_agent.translation import is_timestamp

HEADER = "sluice_agent"

CREATED_AT = "createdAt"
PERIODIC_TASK = "periodicTask"
PRIORITY = "priority"
RUN = "run"


def written(headers: Mapping[str, Any]) -> dict[str, str]:
    """What our header says; empty where there is none, or where somebody else uses its name."""
    note = headers.get(HEADER)
    if note is None:  # task protocol 1 keeps a message's headers apart from the task's
        beside = headers.get("headers")
        note = beside.get(HEADER) if isinstance(beside, dict) else None
    if not isinstance(note, dict):
        return {}
    known = {key: value for key, value in note.items() if isinstance(value, str)}
    if CREATED_AT in known and not is_timestamp(known[CREATED_AT]):
        del known[CREATED_AT]
    return known


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
