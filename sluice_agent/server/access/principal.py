"""Who sends a request, and what it may do.

A route asks for one of the dependencies: ``principal: Annotated[Principal, Depends(require_viewer)]``. Those refuse a
request that may not go on, with an error that names what is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

from fastapi import Request, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from starlette.concurrency import run_in_threadpool

from sluice_agent.server.errors import Docs, RefusedError

COOKIE = "sluice_session"
"""The cookie that holds the token of a session."""

BEARER = HTTPBearer(auto_error=False, description="A key of one connection, which sluice-agent key create makes")
"""Describes the key to OpenAPI."""

_COOKIE = APIKeyCookie(name=COOKIE, auto_error=False, description="A session: open the link that serve prints")


class Role(str, Enum):
    """What a key or a session may do: send events, read, or read and act. None includes `ingest`."""

    INGEST = "ingest"
    VIEWER = "viewer"
    OPERATOR = "operator"

    @property
    def may_read(self) -> bool:
        """True if it includes reading."""
        return self in (Role.VIEWER, Role.OPERATOR)

    @property
    def may_act(self) -> bool:
        """True if it includes acting."""
        return self is Role.OPERATOR


def key_command(role: Role) -> str:
    """Return the command that makes a key of `role`."""
    return f"sluice-agent key create --connection NAME --role {role.value}"


READ_HELP = (
    "Open the sign-in link that sluice-agent serve printed, or send the header Authorization: Bearer with a key that "
    f"{key_command(Role.VIEWER)} made."
)
_ACT_HELP = (
    "Acting needs a session or a key of role operator: open the sign-in link that sluice-agent serve printed, or send "
    f"the header Authorization: Bearer with a key that {key_command(Role.OPERATOR)} made."
)


@dataclass(frozen=True, slots=True)
class Principal:
    """The sender of a request.

    `who` is for logs and messages: ``key 1f6c09ab``, ``session 12``, ``loopback`` (reading without key or session) or
    ``unidentified``. `connections` are the numbers of those that it may use, None for all.
    """

    who: str
    role: Role | None
    connections: frozenset[int] | None = None
    is_made_key: bool = False

    @property
    def may_read(self) -> bool:
        """True if it may read the jobs, queues and workers of `connections`."""
        return self.role is not None and self.role.may_read

    @property
    def may_act(self) -> bool:
        """True if it may retry and revoke jobs of `connections`: it has a session or a made key of role operator."""
        return self.role is not None and self.role.may_act

    def may_use(self, connection: int) -> bool:
        """Return whether the connection with this number is one of `connections`."""
        return self.connections is None or connection in self.connections


LOOPBACK = Principal("loopback", Role.VIEWER)
ANY_KEY = Principal("loopback", Role.OPERATOR)
"""A client on loopback with a key that was not made, where such keys are accepted."""

UNIDENTIFIED = Principal("unidentified", None, frozenset())

Identify = Callable[[Request], Principal]
"""Returns the sender of a request. Raises `RefusedError` for a key or a session that it may not use so."""


async def require_viewer(
    request: Request,
    _bearer: Annotated[Any, Security(BEARER)] = None,
    _cookie: Annotated[Any, Security(_COOKIE)] = None,
) -> Principal:
    """Return the sender if it may read, as `viewer_of` does. Nothing is looked up for a request without a key or a
    session: it needs no thread.

    A dependency of routes; the other parameters are for their OpenAPI description.
    """
    if "authorization" in request.headers or COOKIE in request.cookies:
        return await run_in_threadpool(viewer_of, request)
    return viewer_of(request)


def viewer_of(request: Request) -> Principal:
    """Return the sender if it may read. Raises `RefusedError`: 401 without a key or session, 403 by role."""
    principal = _identify(request)
    if principal.role is None:
        raise RefusedError(401, f"Reading needs a session or a key. {READ_HELP}", docs=Docs.AUTH)
    if not principal.may_read:
        raise RefusedError(403, f"A key of role {principal.role.value} may not read. {READ_HELP}", docs=Docs.API_KEY)
    return principal


def require_operator(
    request: Request,
    _bearer: Annotated[Any, Security(BEARER)] = None,
    _cookie: Annotated[Any, Security(_COOKIE)] = None,
) -> Principal:
    """Return the sender if it may act. Raises `RefusedError`: 401 without a key or session, 403 by role.

    A dependency of routes; the other parameters are for their OpenAPI description.
    """
    principal = _identify(request)
    if principal.role is None or principal is LOOPBACK:
        raise RefusedError(401, _ACT_HELP, docs=Docs.AUTH)
    if not principal.may_act:
        docs = Docs.API_KEY if principal.is_made_key else Docs.AUTH
        raise RefusedError(403, f"The {principal.who} has the role {principal.role.value}. {_ACT_HELP}", docs=docs)
    return principal


def _identify(request: Request) -> Principal:
    identify: Identify = request.app.state.identify
    return identify(request)
