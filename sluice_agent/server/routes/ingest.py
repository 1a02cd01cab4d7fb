"""``POST /api/ingest``: receives events. An invalid event does not affect the others of its batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Security

from sluice_agent.log import warn_limited
from sluice_agent.server.access.gate import Gate, Sender
from sluice_agent.server.access.principal import BEARER
from sluice_agent.server.admission import Admission, BusyError
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.request_body import decode_body, read_body
from sluice_agent.server.routes.documented import errors
from sluice_agent.server.routes.responses import IngestAnswer
from sluice_agent.server.store import BatchResult, IngestBatch, Store, UnavailableError
from sluice_agent.server.validation import event_schema, parse_batch

_ERRORS = errors(400, 401, 403, 408, 413, 415, 429)
_ANY = {"description": "Anything else is counted as rejected."}
_EVENTS = {"type": "array", "items": {"anyOf": [event_schema(), _ANY]}}
_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"events": _EVENTS},
                "required": ["events"],
                "additionalProperties": False,
            }
        }
    },
}
_RETRY_SOON = {"Retry-After": "1"}
_RETRY_LATER = {"Retry-After": "10"}  # seconds: room on the disk takes its time


@dataclass(frozen=True, slots=True)
class IngestPolicy:
    """Conditions of ingest: bytes of a body, events of a connection in a UTC day, and the clock for that day."""

    body_limit: int
    daily_limit: int | None
    now: Callable[[], datetime]


def ingest_router(store: Store, gate: Gate, policy: IngestPolicy) -> APIRouter:
    """Return the route that adds events to `store`, for those whom `gate` admits."""
    router = APIRouter(tags=["ingest"])
    admission = Admission()

    @router.post(
        "/ingest",
        response_model=IngestAnswer,
        responses=_ERRORS,
        dependencies=[Security(BEARER)],
        openapi_extra={"requestBody": _BODY},
    )
    async def ingest(request: Request) -> dict[str, Any]:
        """Add events."""
        sender = await admission.run(partial(gate.identify_sender, request))
        _require_json(request.headers.get("content-type", "application/json"))
        encoding = request.headers.get("content-encoding", "")
        body = await read_body(request)
        try:
            async with admission.admit(len(body)):
                batch, faults = await admission.parse(partial(_parse, body, encoding, sender))
                del body
                result = await _stored(store, batch)
        except BusyError:
            raise RefusedError(503, "The server is busy: send the batch again.", headers=_RETRY_SOON) from None
        if result.truncated and not result.accepted:
            raise _limit_reached(policy)
        usage = {"day": batch.day, "events": result.used, "limit": batch.limit}
        counts = {"accepted": result.accepted, "rejected": faults, "skipped": result.skipped}
        return {**counts, "truncated": result.truncated, "usage": usage}

    def _parse(body: bytes, encoding: str, sender: Sender) -> tuple[IngestBatch, int]:
        """Return the batch in `body`, and the number of events that were rejected."""
        content = decode_body(body, encoding, policy.body_limit)
        batch = parse_batch(content)
        gate.check_connections(sender, {event["connectionId"] for event in batch.events})
        if batch.faults:  # the response has no field for reasons
            total = len(batch.events) + len(batch.faults)
            warn_limited("events", "%d of %d events rejected; %s", len(batch.faults), total, batch.faults[0])
        day = policy.now().date().isoformat()
        parsed = IngestBatch(batch.events, day, policy.daily_limit, sender.connection_id)
        return parsed, len(batch.faults)

    return router


async def _stored(store: Store, batch: IngestBatch) -> BatchResult:
    """Return the result of `batch` when it is written. No thread waits for it."""
    try:
        return await asyncio.wrap_future(store.submit(batch))
    except UnavailableError as error:
        message = f"The server can't write now ({error}): send the batch again later."
        raise RefusedError(503, message, headers=_RETRY_LATER) from None


def _limit_reached(policy: IngestPolicy) -> RefusedError:
    now = policy.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    headers = {"Retry-After": str(int((midnight - now).total_seconds()) + 1)}
    message = f"The connection has reached its limit of {policy.daily_limit} events a day. Send the batch again then."
    return RefusedError(429, message, headers=headers)


def _require_json(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RefusedError(400, "Content-Type must be application/json.")
