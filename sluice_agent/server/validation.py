"""Parse and validate the JSON of a client into events that can be stored. Only the model decides what is valid."""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeAlias

from pydantic import ValidationError

from sluice_agent.model import Event, WireEvent
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.timestamps import is_calendar_date

ReceivedEvent: TypeAlias = WireEvent
"""An event that the contract allows, by its wire names: its type with ``_``, its connection's id in lower case."""


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
    job = event.job
    times = [event.timestamp, *((job.created_at, job.started_at, job.completed_at) if job else ())]
    for time in times:
        if time is not None and not is_calendar_date(time):
            raise ValueError(f"{time} is not a date of the calendar")
    received: ReceivedEvent = json.loads(event.to_json())  # as it will be read back: valid UTF-8, no infinity
    received["connectionId"] = received["connectionId"].lower()
    return received


def describe_error(error: Exception) -> str:
    """Return `error` in one line, without the values that were sent: they belong to the user."""
    if isinstance(error, ValidationError):
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'event'}: {fault['msg']}" for fault in faults)
    return str(error)


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
