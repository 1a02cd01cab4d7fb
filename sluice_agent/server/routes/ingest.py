"""``POST /api/ingest``: receives events. An invalid event does not affect the others of its batch."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from sluice_agent.server.errors import RefusedError
from sluice_agent.server.request_body import decode_body, read_body
from sluice_agent.server.store import BatchResult, IngestBatch, QueueFullError, Store, UnavailableError
from sluice_agent.server.validation import parse_batch

_log = logging.getLogger("sluice_agent.server")
_RETRY_SOON = {"Retry-After": "1"}
_RETRY_LATER = {"Retry-After": "10"}  # seconds: room on the disk takes its time


@dataclass(frozen=True, slots=True)
class IngestPolicy:
    """Conditions of ingest: the key (None: any), bytes of a body, events in a UTC day, and the clock for that day."""

    api_key: str | None
    body_limit: int
    daily_limit: int | None
    now: Callable[[], datetime]


def ingest_router(store: Store, policy: IngestPolicy) -> APIRouter:
    """Return the route that adds events to `store`."""
    router = APIRouter()

    @router.post("/ingest")
    async def ingest(request: Request) -> JSONResponse:
        _authorize(request.headers.get("authorization", ""), policy.api_key)
        _require_json(request.headers.get("content-type", "application/json"))
        encoding = request.headers.get("content-encoding", "")
        body = await read_body(request, policy.body_limit)
        batch, faults = await run_in_threadpool(_parse, body, encoding, policy)
        result = await _stored(store, batch)
        usage = {"day": batch.day, "events": result.used, "limit": batch.limit}
        counts = {"accepted": result.accepted, "rejected": faults, "skipped": result.skipped}
        return JSONResponse({**counts, "truncated": result.truncated, "usage": usage})

    return router


async def _stored(store: Store, batch: IngestBatch) -> BatchResult:
    """Return the result of `batch` when it is written. No thread waits for it."""
    try:
        return await asyncio.wrap_future(store.submit(batch))
    except QueueFullError:
        raise RefusedError(503, "The server is busy: send the batch again.", headers=_RETRY_SOON) from None
    except UnavailableError as error:
        message = f"The server can't write now ({error}): send the batch again later."
        raise RefusedError(503, message, headers=_RETRY_LATER) from None


def _authorize(authorization: str, expected: str | None) -> None:
    scheme, _, key = authorization.partition(" ")
    key = key.strip()
    is_well_formed = scheme.lower() == "bearer" and key.startswith("sk_")
    if not is_well_formed or (expected is not None and not hmac.compare_digest(key.encode(), expected.encode())):
        raise RefusedError(401, "Send the header Authorization: Bearer sk_… with a key that this server accepts.")


def _require_json(content_type: str) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise RefusedError(400, "Content-Type must be application/json.")


def _parse(body: bytes, encoding: str, policy: IngestPolicy) -> tuple[IngestBatch, int]:
    """Return the batch in `body`, and the number of events that were rejected."""
    content = decode_body(body, encoding, policy.body_limit)
    batch = parse_batch(content)
    if batch.faults:  # the response has no field for reasons
        total = len(batch.events) + len(batch.faults)
        _log.warning("%d of %d events rejected; %s", len(batch.faults), total, batch.faults[0])
    day = policy.now().date().isoformat()
    return IngestBatch(batch.events, day, policy.daily_limit, size=len(content)), len(batch.faults)
