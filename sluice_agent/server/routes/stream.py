"""``GET /api/events/stream``: the changes of one connection, as server-sent events."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from sluice_agent.server.access.principal import Principal, require_viewer, viewer_of
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.routes.documented import READING, errors
from sluice_agent.server.store import Store
from sluice_agent.server.stream.frame_types import ALLOWED_TYPES, Types, parse_types
from sluice_agent.server.stream.hub import Hub
from sluice_agent.server.stream.replay import StoredConnection, find_connection
from sluice_agent.server.stream.sse import EventStream

_TYPES = f"Comma-separated, or repeated: {ALLOWED_TYPES}. Without it all are sent. A heartbeat comes whatever it names."
_LAST_ID = "The id of the last frame that the client has: the stream goes on after it."
_QUERY_ID = "The same as the header Last-Event-ID, which takes precedence, for pages that can't set it."


def stream_router(store: Store, hub: Hub) -> APIRouter:
    """Return the route that sends what `hub` publishes."""
    router = APIRouter(prefix="/events", tags=["stream"])

    @router.get("/stream", status_code=200, response_class=EventStream, responses=READING | errors(404))
    async def stream(
        request: Request,
        principal: Annotated[Principal, Depends(require_viewer)],
        connection_id: Annotated[UUID, Query(alias="connectionId")],
        types: Annotated[list[str], Query(max_length=10, description=_TYPES)] = [],  # noqa: B006 (not changed)
        last_event_id: Annotated[str | None, Header(description=_LAST_ID)] = None,
        query_id: Annotated[str | None, Query(alias="lastEventId", description=_QUERY_ID)] = None,
    ) -> Response:
        chosen = _parse_types(types)
        connection = await run_in_threadpool(_find, store, str(connection_id))
        if connection is None or not principal.may_use(connection.number):
            raise RefusedError(404, f"There is no connection {connection_id}, or no event of it has arrived yet.")
        number = connection.number

        def may_read() -> bool:
            return _may_still_read(request, number)

        return EventStream(hub, connection, chosen, last_event_id or query_id or None, may_read)

    return router


def _may_still_read(request: Request, connection: int) -> bool:
    """Return whether the client would be admitted again now."""
    try:
        return viewer_of(request).may_use(connection)
    except RefusedError:
        return False


def _parse_types(texts: list[str]) -> Types:
    try:
        return parse_types(texts)
    except ValueError:
        message = f"types is a comma-separated list of {ALLOWED_TYPES}, as in types=job,queue."
        raise RefusedError(400, message, {"types": "an unknown type"}) from None


def _find(store: Store, connection_id: str) -> StoredConnection | None:
    with store.reading() as reading:
        return find_connection(reading, connection_id)
