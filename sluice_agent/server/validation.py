"""From the JSON that a client sent to events that can be stored. Only the model decides what an event may be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import ValidationError

from sluice_agent.model import Event, to_valid_utf8
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.timestamps import is_real


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event that the contract allows. `subject` is a job's or worker's external id, or a queue's name."""

    connection_id: str
    kind: str
    subject: str
    event_id: str | None
    body: str


def parse_events(body: bytes) -> list[Any]:
    """The events, unread, in a body ``{"events": [ … ]}``. Raises `RefusedError` (400) for anything else."""
    try:
        content = json.loads(body, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"The body is not JSON: {error}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("events"), list) or len(content) != 1:
        raise RefusedError(400, 'The body must be {"events": [ … ]} and nothing else.')
    events: list[Any] = content["events"]
    return events


def arrival(data: Any) -> Arrival:
    """The event in `data`. Type names take ``_``, ``.`` and ``:`` alike. Raises `ValueError`, which says why not."""
    if isinstance(data, dict) and isinstance(data.get("type"), str):
        data = {**data, "type": data["type"].replace(".", "_").replace(":", "_")}
    event = Event.parse_strict(data)
    job, worker, queue = event.job, event.worker, event.queue
    times = [event.timestamp, *((job.created_at, job.started_at, job.completed_at) if job else ())]
    for time in times:
        if time is not None and not is_real(time):
            raise ValueError(f"{time} is no date of the calendar")
    connection_id = event.connection_id.lower()
    body = event.to_json().decode()
    if job:
        return Arrival(connection_id, "job", job.external_id, _event_id(job.extensions), body)
    if worker:
        return Arrival(connection_id, "worker", worker.external_id, _event_id(worker.metadata), body)
    return Arrival(connection_id, "queue", queue.name if queue else "", None, body)


def why_not(error: Exception) -> str:
    """`error` in one line, without the values that were sent: they are the user's own."""
    if isinstance(error, ValidationError):
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'event'}: {fault['msg']}" for fault in faults)
    return str(error)


def _event_id(open_fields: dict[str, Any] | None) -> str | None:
    found = (open_fields or {}).get("eventId")
    return to_valid_utf8(found) if isinstance(found, str) and found else None


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
