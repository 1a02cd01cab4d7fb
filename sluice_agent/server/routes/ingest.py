"""``POST /api/ingest``: receives events. An invalid event does not affect the others of its batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Security

from sluice_agent.log import warn_limited
from sluice_agent.server.access.gate import Gate, Sender
from sluice_agent.server.access.principal import BEARER
from sluice_agent.server.admission import ADMISSION_LIMITS, Admission, AdmissionLimits, BusyError
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
_UNREAD = 12  # requests whose bodies wait for the one writer: as many as it writes in one transaction, and more
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
    admission = Admission(ADMISSION_LIMITS if store.is_shared else AdmissionLimits(admitted=_UNREAD))

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
                reader = _Reader(gate, policy, sender, body, encoding)
                del body
                result = await _stored(admission.parse(partial(store.submit_unread, reader.read)))
        except BusyError:
            raise RefusedError(503, "The server is busy: send the batch again.", headers=_RETRY_SOON) from None
        if result.truncated and not result.accepted:
            raise _limit_reached(policy)
        usage = {"day": reader.day, "events": result.used, "limit": policy.daily_limit}
        counts = {"accepted": result.accepted, "rejected": reader.rejected, "skipped": result.skipped}
        return {**counts, "truncated": result.truncated, "usage": usage}

    return router


class _Reader:
    """Reads the batch in the `body` of a request of `sender`. `rejected` are its invalid events."""

    def __init__(self, gate: Gate, policy: IngestPolicy, sender: Sender, body: bytes, encoding: str) -> None:
        self._gate = gate
        self._policy = policy
        self._sender = sender
        self._body = body
        self._encoding = encoding
        self.day = policy.now().date().isoformat()
        self.rejected = 0

    def read(self) -> IngestBatch:
        """Return the valid events. Raises `RefusedError` if the body can't be used."""
        batch = parse_batch(decode_body(self._body, self._encoding, self._policy.body_limit))
        self._gate.check_connections(self._sender, {event["connectionId"] for event in batch.events})
        self.rejected = len(batch.faults)
        if batch.faults:  # the response has no field for reasons
            total = len(batch.events) + self.rejected
            warn_limited("events", "%d of %d events rejected; %s", self.rejected, total, batch.faults[0])
        return IngestBatch(batch.events, self.day, self._policy.daily_limit, self._sender.connection_id)


async def _stored(submission: Awaitable[Future[BatchResult]]) -> BatchResult:
    """Return the result of a batch when it is written. No thread waits for it."""
    try:
        return await asyncio.wrap_future(await submission)
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
