"""What a page is about: one connection of those that its reader may use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query
from sqlalchemy import Connection

from sluice_agent.server.access.principal import Principal, require_viewer
from sluice_agent.server.errors import Docs, RefusedError
from sluice_agent.server.queries.connections import last_changes, named_connections
from sluice_agent.server.store.named_connection import NamedConnection

PageViewer = Annotated[Principal, Depends(require_viewer)]
"""The parameter of a page's route by which only those who may read see it."""

ConnectionId = Annotated[UUID | None, Query(alias="connectionId")]


@dataclass(frozen=True, slots=True)
class Scope:
    """The connections that `principal` may read, the one that the page shows, and the moment at which it does."""

    principal: Principal
    connections: Sequence[NamedConnection]
    connection: NamedConnection | None

    @property
    def is_ambiguous(self) -> bool:
        """True if an address must name the connection, as there are others."""
        return len(self.connections) > 1

    @property
    def numbers(self) -> dict[str, int]:
        """The number of the connection by its id, as queries take it; empty if there is no connection yet."""
        return {} if self.connection is None else {self.connection.id: self.connection.number}


def scope_of(reader: Connection, principal: Principal, connection_id: UUID | None) -> Scope:
    """Return the scope of a page: without `connection_id`, the connection whose jobs changed last.

    Raises `RefusedError`: 404 if there is no such connection, 403 if the reader may not use it.
    """
    known = named_connections(reader)
    usable = [connection for connection in known if principal.may_use(connection.number)]
    if connection_id is None:
        return Scope(principal, usable, _newest(reader, usable))
    wanted = str(connection_id)
    for connection in usable:
        if connection.id == wanted:
            return Scope(principal, usable, connection)
    if principal.connections is not None:
        raise RefusedError(403, "This key belongs to another connection.", docs=Docs.API_KEY)
    raise RefusedError(
        404, "There is no connection with this id. Open the page without connectionId to see the newest."
    )


def _newest(reader: Connection, connections: Sequence[NamedConnection]) -> NamedConnection | None:
    if len(connections) <= 1:
        return connections[0] if connections else None
    changes = last_changes(reader, [connection.number for connection in connections])
    return max(connections, key=lambda connection: (changes.get(connection.number, 0), connection.number))
