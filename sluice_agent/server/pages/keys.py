"""``/connections/key``: a new key with the lines to paste, shown once; and the questions before one is replaced or
revoked.

The browser sends the secret with the form that makes the key, and gets it back in the answer. So the server keeps its
hash alone, and a form that is sent twice makes one key and shows it twice, whichever process answers. That answer is no
redirect, which could not show the secret; its address, when it is loaded again, is the page without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from sluice_agent.errors import ConfigError
from sluice_agent.server.access.accounts import Accounts, Key
from sluice_agent.server.access.audit import AuditEntry
from sluice_agent.server.access.exposure import is_secure
from sluice_agent.server.access.principal import Principal, Role
from sluice_agent.server.access.tokens import is_new, new_id, new_key
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.forms import PageManager, SentForm, SessionForm, see_other
from sluice_agent.server.pages.render import NO_STORE, Layout, render
from sluice_agent.server.pages.scope import scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.connections import last_events

_UNKEYED = "Until now any key could send jobs of this connection: retry only those that you know."


class Snippet(NamedTuple):
    """Lines to paste, and where."""

    title: str
    text: str
    note: str = ""


class KeyView(NamedTuple):
    """The page of a new key. Without a `secret` it has no snippets."""

    key: Key
    secret: str | None
    snippets: Sequence[Snippet]
    warning: str | None
    is_awaited: bool
    """True for a key that sends events, until the first one has arrived."""


class KeyQuestion(NamedTuple):
    """The page that asks before a key is replaced or revoked. `new_id` and `new_secret` are those of the new key."""

    key: Key
    new_id: str
    new_secret: str


def keys_router(sources: Sources) -> APIRouter:
    """Return the routes of keys."""
    router = APIRouter()
    accounts = sources.access.accounts

    @router.get("/connections/key")
    def key(request: Request, principal: PageManager, id: str) -> HTMLResponse:  # noqa: A002 - the parameter's name
        return _page(sources, request, principal, _existing(accounts, id))

    @router.post("/connections/key")
    def make(request: Request, form: SessionForm, id: str) -> HTMLResponse:  # noqa: A002
        secret = form.value("secret")
        if not is_new(secret, id):
            raise RefusedError(400, "The form has no new key: open its page again.")
        warning = _make(sources, form, id, secret)
        return _page(sources, request, form.principal, _existing(accounts, id), secret, warning)

    @router.get("/connections/rotate")
    def ask_to_rotate(request: Request, principal: PageManager, id: str) -> HTMLResponse:  # noqa: A002
        return _question(sources, request, principal, "key_rotate.html", _existing(accounts, id))

    @router.get("/connections/revoke")
    def ask_to_revoke(request: Request, principal: PageManager, id: str) -> HTMLResponse:  # noqa: A002
        return _question(sources, request, principal, "key_revoke.html", _existing(accounts, id))

    @router.post("/connections/revoke")
    def revoke(form: SessionForm) -> Response:
        found = _existing(accounts, form.value("id"))
        if found.revoked_at is None:
            accounts.revoke_key(found.id)
            _note(sources, form, "key revoke", found)
        return see_other("/connections")

    return router


def _make(sources: Sources, form: SentForm, key_id: str, secret: str) -> str | None:
    """Make the key of a form, unless it has made it before. Return a warning about its connection, if there is one."""
    accounts = sources.access.accounts
    warning = None
    try:
        if form.values("rotates"):
            old = form.value("rotates")
            accounts.rotate_key(old, secret, key_id)
            _note(sources, form, f"key rotate to {key_id}", _existing(accounts, old))
        else:
            role = Role(form.value("role"))
            connection, _ = accounts.open_connection(form.value("connection"))
            warning = _UNKEYED if role is Role.INGEST and accounts.has_unkeyed_jobs(connection.number) else None
            accounts.create_key(connection, role, secret, key_id)
            _note(sources, form, "key create", _existing(accounts, key_id))
    except ConfigError as error:
        made = accounts.find_key(secret)
        if made is None or made.id != key_id:
            raise RefusedError(400, f"No key was made: {error}.") from None
    except ValueError:
        raise RefusedError(400, "The field role must be ingest, viewer or operator.") from None
    return warning


def _page(
    sources: Sources,
    request: Request,
    principal: Principal,
    key: Key,
    secret: str | None = None,
    warning: str | None = None,
) -> HTMLResponse:
    now = sources.now()
    with sources.store.reading() as reader:
        scope = scope_of(reader, principal, UUID(key.connection.id))
        has_events = key.connection.number in last_events(reader, [key.connection.number])
    is_used = key.last_used_at is not None and has_events
    snippets = () if secret is None else _snippets(request, key, secret)
    view = KeyView(key, secret, snippets, warning, key.role is Role.INGEST and not is_used and key.revoked_at is None)
    layout = Layout("connections", f"Key of {key.connection.label}", now, scope, ("job", "worker", "queue"))
    return render(request, "key.html", layout, view, headers=NO_STORE)


def _question(sources: Sources, request: Request, principal: Principal, template: str, key: Key) -> HTMLResponse:
    with sources.store.reading() as reader:
        scope = scope_of(reader, principal, UUID(key.connection.id))
    layout = Layout("connections", f"Key {key.id}", sources.now(), scope)
    return render(request, template, layout, KeyQuestion(key, new_id(), new_key()), headers=NO_STORE)


def _existing(accounts: Accounts, key_id: str) -> Key:
    try:
        return accounts.key_with_id(key_id.replace("\0", ""))
    except ConfigError:
        raise RefusedError(404, "There is no key with this id.") from None


def _note(sources: Sources, form: SentForm, action: str, key: Key) -> None:
    entry = AuditEntry(
        form.principal.who, action, key.id, key.connection.number, key.connection.name or key.connection.id
    )
    sources.access.audit.add(entry)


def _snippets(request: Request, key: Key, secret: str) -> list[Snippet]:
    scheme = "https" if is_secure(request.url.scheme, request.headers) else "http"
    server = f"{scheme}://{request.url.netloc}"
    if key.role is not Role.INGEST:
        return [Snippet("A program that reads", f"curl -H 'Authorization: Bearer {secret}' {server}/api/jobs")]
    own = f"SLUICE_CONNECTION_ID={key.connection.id}\nSLUICE_API_KEY={secret}"
    return [
        Snippet(
            "A worker with the agent",
            f"SLUICE_API_URL={server}/api\n{own}",
            "The environment of workers and of programs that publish jobs.",
        ),
        Snippet(
            "A sidecar, without a change of the app",
            f"SLUICE_API_URL={server}/api \\\n{own.replace(chr(10), ' ' + chr(92) + chr(10))} \\\n"
            "sluice-agent monitor --broker redis://localhost:6379/0",
            "With the address of your broker.",
        ),
        Snippet("The vendor’s SDK", f"SLUICE_BASE_URL={server}\n{own}", "The environment of workers."),
    ]
