"""Parse and validate the JSON of a client into events that can be stored. Only the model decides what is valid."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import ValidationError

from sluice_agent.model import Event, to_valid_utf8
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.timestamps import is_calendar_date


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """An event that the contract allows. `subject` is a job's or worker's external id, or a queue's name."""

    connection_id: str
    kind: str
    subject: str
    event_id: str | None
    body: str


def parse_events(body: bytes) -> list[Any]:
    """Return the events, not validated, of a body ``{"events": [ … ]}``. Raises `RefusedError` (400) for another."""
    try:
        content = json.loads(body, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"The body is not JSON: {error}.") from None
    if not isinstance(content, dict) or not isinstance(content.get("events"), list) or len(content) != 1:
        raise RefusedError(400, 'The body must be {"events": [ … ]} and nothing else.')
    events: list[Any] = content["events"]
    return events


def parse_event(data: Any) -> ReceivedEvent:
    """Return the event in `data`. Type names may have ``_``, ``.`` or ``:``. Raises `ValueError` with the reason."""
    if isinstance(data, dict) and isinstance(data.get("type"), str):
        data = {**data, "type": data["type"].replace(".", "_").replace(":", "_")}
    event = Event.parse_strict(data)
    job, worker, queue = event.job, event.worker, event.queue
    times = [event.timestamp, *((job.created_at, job.started_at, job.completed_at) if job else ())]
    for time in times:
        if time is not None and not is_calendar_date(time):
            raise ValueError(f"{time} is not a date of the calendar")
    connection_id = event.connection_id.lower()
    body = event.to_json().decode()
    if job:
        return ReceivedEvent(connection_id, "job", job.external_id, _event_id(job.extensions), body)
    if worker:
        return ReceivedEvent(connection_id, "worker", worker.external_id, _event_id(worker.metadata), body)
    return ReceivedEvent(connection_id, "queue", queue.name if queue else "", None, body)


def describe_error(error: Exception) -> str:
    """Return `error` in one line, without the values that were sent: they belong to the user."""
    if isinstance(error, ValidationError):
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'event'}: {fault['msg']}" for fault in faults)
    return str(error)


def _event_id(fields: dict[str, Any] | None) -> str | None:
    event_id = (fields or {}).get("eventId")
    return to_valid_utf8(event_id) if isinstance(event_id, str) and event_id else None


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
