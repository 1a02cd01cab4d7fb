"""Parameters that several routes have."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, get_origin
from urllib.parse import unquote
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from fastapi.dependencies.models import Dependant
from sqlalchemy import Connection

from sluice_agent.model import Framework
from sluice_agent.server.access.principal import Principal, require_viewer
from sluice_agent.server.errors import Docs, RefusedError
from sluice_agent.server.queries.selection import known_connections
from sluice_agent.server.queries.sorting import SortOrder
from sluice_agent.server.queries.window import DURATION
from sluice_agent.server.timestamps import Moment

ACTIONS = ("retry", "revoke")
"""The last segments of the paths by which jobs are acted on."""

_ID_SEGMENT = 3  # of /api/jobs/{job}
_NO_NUL = r"^[^\x00]*$"  # the contract allows no text with a NUL, and PostgreSQL takes none

Viewer = Annotated[Principal, Depends(require_viewer)]
ConnectionId = Annotated[UUID | None, Query(alias="connectionId", description="Only this connection.")]
Direction = Annotated[SortOrder, Query(alias="sortOrder")]
FrameworkName = Annotated[Framework | None, Query(description="Only this framework.")]
Range = Annotated[
    str,
    Query(
        alias="timeRange",
        max_length=10,
        pattern=f"^{DURATION.pattern}$",
        description="How far back counts and rates reach: minutes, hours or days, such as 90m, 24h or 7d.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=100)]
PageNumber = Annotated[int, Query(ge=1, le=1_000_000, description="Pages count from 1.")]
From = Annotated[
    Moment | None, Query(alias="from", description="In place of `timeRange`: counts and rates begin then.")
]
To = Annotated[Moment | None, Query(alias="to", description="With `from`: they end then. The default is now.")]
Cursor = Annotated[str | None, Query(max_length=1_000, pattern=_NO_NUL, description="`nextCursor` of the page before.")]
HistoryBefore = Annotated[
    int | None,
    Query(
        alias="historyBefore",
        ge=1,
        le=2**31 - 1,
        description="Only the first so many states: `extensions.stateHistoryOffset` asks for those before a record's.",
    ),
]


async def refuse_repeated(request: Request) -> None:
    """Raise `RefusedError` (400) if a parameter that has one value comes twice: the framework would take the last.

    A dependency of all routes.
    """
    if request.scope["query_string"]:
        single = _single_parameters(request.scope["route"].dependant)
        times = Counter(name for name, _ in request.query_params.multi_items())
        repeated = sorted(name for name in single if times[name] > 1)
        if repeated:
            raise RefusedError(400, "A parameter is not valid.", dict.fromkeys(repeated, "It may be given once only."))


def _single_parameters(dependant: Dependant) -> frozenset[str]:
    """Return the names of the parameters of a route, or of what it depends on, that are no lists."""
    own = (field.alias for field in dependant.query_params if get_origin(field.field_info.annotation) is not list)
    return frozenset(own).union(*map(_single_parameters, dependant.dependencies))


def connections_for(reader: Connection, principal: Principal, connection_id: UUID | None) -> dict[str, int]:
    """Return the numbers by id of the connections that a request is about: all that the sender may use, or the one.

    Raises `RefusedError` (403) if the sender may not use it.
    """
    usable = known_connections(reader, principal.connections)
    if connection_id is None:
        return usable
    number = usable.get(str(connection_id))
    if number is None and principal.connections is not None:
        raise RefusedError(403, "This key belongs to another connection.", docs=Docs.API_KEY)
    return {} if number is None else {str(connection_id): number}


async def job_in_path(
    request: Request, job: Annotated[str, Path(description="The job's id: Sluice's, or the framework's.")]
) -> str:
    """Return the id of the job in the path of a route ``/api/jobs/{job:path}…``. Slashes of an id are percent-encoded.

    Raises `RefusedError` (404) if other slashes make the path deeper than the route's; 405 if it is that of an action.
    """
    scope = request.scope
    segments = scope["raw_path"].decode("ascii", "replace").split("/")
    depth = scope["path"].count("/") - job.count("/")
    if len(segments) != depth + 1:
        if segments[-1] in ACTIONS and request.method != "POST":
            raise RefusedError(405, "Method Not Allowed.", headers={"Allow": "POST"})
        raise RefusedError(404, "Not Found.")
    return unquote(segments[_ID_SEGMENT])
