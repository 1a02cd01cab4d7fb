"""Forms that change something: who sends one is known before its body is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from sluice_agent.server.access.principal import Principal, Role, key_command, require_operator
from sluice_agent.server.errors import Docs, RefusedError
from sluice_agent.server.pages.render import NO_STORE
from sluice_agent.server.request_body import read_body

_TYPE = "application/x-www-form-urlencoded"
_MOST_FIELDS = 1_000

SENT_FORM = "sluice_agent.sent_form"
"""The key, in the state of a request, of the form that it has sent, so that a page about an error loses none of it."""


@dataclass(frozen=True, slots=True)
class SentForm:
    """A form that `principal` has sent, who may act."""

    principal: Principal
    fields: Sequence[tuple[str, str]]

    def values(self, name: str) -> list[str]:
        """Return all values of a field."""
        return [value for other, value in self.fields if other == name]

    def value(self, name: str, default: str | None = None) -> str:
        """Return the value of a field. Raises `RefusedError` (400) unless it is there once, or has a default."""
        values = self.values(name)
        if not values and default is not None:
            return default
        if len(values) != 1:
            raise RefusedError(400, f"The form must have the field {name} once: open its page again.")
        return values[0]

    def uuid(self, name: str) -> str:
        """Return the UUID in a field. Raises `RefusedError` (400) if it is none."""
        try:
            return str(UUID(self.value(name)))
        except ValueError:
            raise RefusedError(400, f"The field {name} of the form must be a UUID: open its page again.") from None


async def _form_of_operator(request: Request) -> SentForm:
    principal = await run_in_threadpool(require_operator, request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise RefusedError(415, f"A form is sent as {_TYPE}.")
    body = await read_body(request)
    try:
        form = SentForm(principal, parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise RefusedError(400, f"The form is not UTF-8, or has more than {_MOST_FIELDS} fields.") from None
    request.scope["state"][SENT_FORM] = form
    return form


def may_manage(principal: Principal) -> bool:
    """Return whether `principal` may make connections and keys: a session of role operator. A key is of one
    connection."""
    return principal.may_act and principal.connections is None


def _require_manager(principal: Annotated[Principal, Depends(require_operator)]) -> Principal:
    _check_manager(principal)
    return principal


async def _form_of_session(request: Request) -> SentForm:
    form = await _form_of_operator(request)
    _check_manager(form.principal)
    return form


def _check_manager(principal: Principal) -> None:
    if not may_manage(principal):
        raise RefusedError(
            403,
            "Connections and their keys need a session of role operator: open the sign-in link that sluice-agent serve "
            f"printed, or use {key_command(Role.INGEST)} on the server's machine.",
            docs=Docs.AUTH,
        )


def check_selection(request: Request, selected: Sequence[str]) -> None:
    """Raise `RefusedError` (409) if a list has sent its selection, and nothing is in it: without the script its buttons
    can be pressed then, and does not mean all that there is."""
    if "isSelection" in request.query_params and not selected:
        raise RefusedError(409, "Nothing is selected: go back, and tick the boxes of those that you mean.")


def see_other(address: str) -> RedirectResponse:
    """Return the answer to a form that is done: the browser loads `address`, so that Back and Reload repeat nothing."""
    return RedirectResponse(address, 303, headers=NO_STORE)


OperatorForm = Annotated[SentForm, Depends(_form_of_operator)]
"""The parameter of a route for a form that only operators may send."""

SessionForm = Annotated[SentForm, Depends(_form_of_session)]
"""The same of a form that needs a session, as it is not about one connection."""

PageManager = Annotated[Principal, Depends(_require_manager)]
"""The parameter of the route of a page that is for those who may make connections and keys."""
