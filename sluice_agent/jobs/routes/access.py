"""Who sends a request to ``/v1``, which project it may use, and what it may do there.

A made key belongs to a connection, and so to one project: the connection's name, or its id if it has no name. Its role
decides what it may do: `viewer` reads, `operator` reads, writes and triggers. On loopback, where the server accepts
events with any key, any key may do all of it, in every project; so may a session of an operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Security

from sluice_agent.server.access.principal import BEARER, Principal, Role, key_command
from sluice_agent.server.access.setup import Access
from sluice_agent.server.errors import RefusedError

_KEY_HELP = f"Send the header Authorization: Bearer with a key that {key_command(Role.OPERATOR)} made."
_STATE = "sluice_agent_caller"


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request. `project` is the only one that it may use, None: any. `name` is recorded with what it
    makes."""

    name: str
    project: str | None

    def may_use(self, project: str) -> bool:
        """Return whether it may use a project."""
        return self.project is None or self.project == project


def identify_caller(request: Request) -> None:
    """Find out who sends `request`, before its body is read. It blocks.

    Raises `RefusedError`: 401 without a valid key or session, 403 by role.
    """
    access: Access = request.app.state.access
    principal = access.gate.identify_client(request)
    if principal.role is None:
        raise RefusedError(401, f"This needs a key. {_KEY_HELP}")
    if not principal.may_read:
        raise RefusedError(403, f"A key of role {principal.role.value} may not use this API. {_KEY_HELP}")
    if request.method != "GET" and not principal.may_act:
        raise RefusedError(403, f"The {principal.who} has the role {principal.role.value}: it may read. {_KEY_HELP}")
    setattr(request.state, _STATE, Caller(_name_of(principal), _project_of(access, principal)))


def caller_of(request: Request, _bearer: Annotated[Any, Security(BEARER)] = None) -> Caller:
    """Return the sender of `request`, whom `identify_caller` has found.

    A dependency of routes; the other parameter is for their OpenAPI description.
    """
    caller: Caller = getattr(request.state, _STATE)
    return caller


Sender = Annotated[Caller, Depends(caller_of)]


def _name_of(principal: Principal) -> str:
    """Return how rows name the sender: ``apikey:1f6c09ab``, ``session:12``, or ``loopback``."""
    return principal.who.replace("key ", "apikey:").replace(" ", ":")


def _project_of(access: Access, principal: Principal) -> str | None:
    if principal.connections is None:
        return None
    (number,) = principal.connections
    connection = access.accounts.connection(number)
    return connection.name or connection.id
