"""``/connections``: the connections, what they send, and their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from sluice_agent.server.access.accounts import Key
from sluice_agent.server.access.principal import Principal, Role
from sluice_agent.server.access.tokens import new_id, new_key
from sluice_agent.server.pages.forms import may_manage
from sluice_agent.server.pages.render import NO_STORE, Layout, render
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.connections import last_events
from sluice_agent.server.queries.size import events_of_day_by_connection
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none, to_moment


class KeyRow(NamedTuple):
    """A key. Times are timestamps."""

    id: str
    role: str
    created_at: str
    last_used_at: str | None
    revoked_at: str | None


class ConnectionRow(NamedTuple):
    """A connection: its last event, None if none has come, and its keys, those that are valid first."""

    connection: NamedConnection
    last_event_at: str | None
    events_today: int
    keys: Sequence[KeyRow]


class ConnectionsView(NamedTuple):
    """The page of connections. `may_see_keys` and `may_manage` are about its reader."""

    rows: Sequence[ConnectionRow]
    daily_limit: int | None
    may_see_keys: bool
    may_manage: bool
    roles: Sequence[str]
    new_id: str
    new_secret: str
    """The id and the secret that a key gets which is made by the form of this page: sent twice, it makes one key."""


def connections_router(sources: Sources) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/connections")
    def connections(request: Request, principal: PageViewer, connection_id: ConnectionId = None) -> HTMLResponse:
        now = sources.now()
        keys = sources.access.accounts.list_keys()
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            moments = last_events(reader, [connection.number for connection in scope.connections])
            events = events_of_day_by_connection(reader, now.date().isoformat())
        rows = [_row(connection, moments, events, keys, principal) for connection in scope.connections]
        view = ConnectionsView(
            rows=rows,
            daily_limit=sources.daily_limit,
            may_see_keys=principal.may_act,
            may_manage=may_manage(principal),
            roles=[role.value for role in Role],
            new_id=new_id(),
            new_secret=new_key(),
        )
        types = ("job", "worker", "queue") if scope.connection is not None else ()
        layout = Layout("connections", "Connections", now, scope, types)
        return render(request, "connections.html", layout, view, headers=NO_STORE)

    return router


def _row(
    connection: NamedConnection,
    moments: Mapping[int, int],
    events: Mapping[int, int],
    keys: Sequence[Key],
    principal: Principal,
) -> ConnectionRow:
    own = [_key_row(key) for key in keys if key.connection.number == connection.number and principal.may_act]
    return ConnectionRow(
        connection,
        timestamp_or_none(moments.get(connection.number)),
        events.get(connection.number, 0),
        sorted(own, key=lambda key: key.revoked_at is not None),
    )


def _key_row(key: Key) -> KeyRow:
    return KeyRow(
        key.id,
        key.role.value,
        timestamp_of(to_moment(key.created_at)),
        None if key.last_used_at is None else timestamp_of(to_moment(key.last_used_at)),
        None if key.revoked_at is None else timestamp_of(to_moment(key.revoked_at)),
    )
