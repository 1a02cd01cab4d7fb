"""``POST /api/ingest``: events come in, and nothing that is wrong with one of them harms the others."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from sluice_agent.server.errors import RefusedError
from sluice_agent.server.request_body import decoded, read_body
from sluice_agent.server.store import Store
from sluice_agent.server.validation import Arrival, arrival, parse_events, why_not

_log = logging.getLogger("sluice_agent.server")


@dataclass(frozen=True, slots=True)
class Terms:
    """Which events are taken: with which key (None: any), bytes in a body, how many in a UTC day, by which clock."""

    api_key: str | None
    body_limit: int
    daily_limit: int | None
    now: Callable[[], datetime]


def ingest_router(store: Store, terms: Terms) -> APIRouter:
    """The route by which events enter `store`."""
    router = APIRouter()

    @router.post("/ingest")
    async def ingest(request: Request) -> JSONResponse:
        _authorize(request.headers.get("authorization", ""), terms.api_key)
        _require_json(request.headers.get("content-type", "application/json"))
        encoding = request.headers.get("content-encoding", "")
        body = await read_body(request, terms.body_limit)
        return JSONResponse(await run_in_threadpool(_taken, store, terms, body, encoding))

    return router


def _authorize(authorization: str, only: str | None) -> None:
    scheme, _, key = authorization.partition(" ")
    key = key.strip()
    right = scheme.lower() == "bearer" and key.startswith("sk_")
    if not right or (only is not None and not hmac.compare_digest(key.encode(), only.encode())):
        raise RefusedError(401, "Send the header Authorization: Bearer sk_… with a key that this server takes.")


def _require_json(content_type: str) -> None:
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(400, "Content-Type must be application/json.")


def _taken(store: Store, terms: Terms, body: bytes, encoding: str) -> dict[str, Any]:
    events = parse_events(decoded(body, encoding, terms.body_limit))
    arrivals = _allowed(events)
    day = terms.now().date().isoformat()
    tally = store.add(arrivals, day, terms.daily_limit)
    return {
        "accepted": tally.accepted,
        "rejected": len(events) - len(arrivals),
        "skipped": tally.skipped,
        "truncated": tally.truncated,
        "usage": {"day": day, "events": tally.used, "limit": terms.daily_limit},
    }


def _allowed(events: list[Any]) -> list[Arrival]:
    """What the contract allows of `events`. The answer has no room for reasons, so the log names the first."""
    arrivals: list[Arrival] = []
    reasons: list[str] = []
    for index, event in enumerate(events):
        try:
            arrivals.append(arrival(event))
        except (ValueError, RecursionError) as error:
            reasons.append(f"event {index}: {why_not(error)}")
    if reasons:
        _log.warning("%d of %d events rejected; %s", len(reasons), len(events), reasons[0])
    return arrivals
