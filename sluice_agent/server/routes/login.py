"""``/login`` and ``/logout``: exchange the token of a sign-in link for a session's cookie, and end the session.

The page that answers the link loads another one of this server by itself: so the token leaves the address, and the
browser sends the cookie, which it would withhold from a redirect if another site had opened the link.
"""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from sluice_agent.server.access.audit import Action, ActionLog
from sluice_agent.server.access.exposure import is_secure
from sluice_agent.server.access.gate import session_secret
from sluice_agent.server.access.principal import COOKIE
from sluice_agent.server.access.sessions import SESSION_AGE, SessionRecord, Sessions
from sluice_agent.server.errors import CHALLENGE, Docs, RefusedError
from sluice_agent.server.middleware import IS_HEAD

_NO_STORE = {"Cache-Control": "no-store"}
_REFRESH = '<meta http-equiv="refresh" content="0; url=/login">'
_NEW_LINK = "sluice-agent key link prints a new one."


def login_router(sessions: Sessions, actions: ActionLog) -> APIRouter:
    """Return the routes by which a browser signs in and out."""
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    def login(request: Request, token: str | None = None) -> HTMLResponse:
        is_preview = request.scope.get(IS_HEAD, False)  # of a program that checks links: the token must still work
        return _sign_in(request, token) if token is not None and not is_preview else _status(request)

    def _sign_in(request: Request, token: str) -> HTMLResponse:
        signed_in = sessions.sign_in(token)
        if signed_in is None:
            return _page(f"This sign-in link was used, or is more than a day old. {_NEW_LINK}", HTTPStatus.UNAUTHORIZED)
        record, secret = signed_in
        actions.add(Action(f"session {record.id}", "sign in", record.role.value))
        response = _page(_signed_in_text(record), head=_REFRESH)
        response.set_cookie(
            COOKIE,
            secret,
            max_age=int(SESSION_AGE.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=is_secure(request.url.scheme, request.headers),
        )
        return response

    def _status(request: Request) -> HTMLResponse:
        record = sessions.find(session_secret(request) or "")
        if record is None:
            return _page(f"Not signed in. Open the sign-in link that sluice-agent serve printed; {_NEW_LINK}")
        return _page(_signed_in_text(record))

    @router.post("/logout")
    def logout(request: Request) -> HTMLResponse:
        if request.headers.get("sec-fetch-site") != "same-origin":
            raise RefusedError(
                403, "Sign out from a page of this server (Sec-Fetch-Site: same-origin).", docs=Docs.AUTH
            )
        record = sessions.find(session_secret(request) or "")
        if record is not None:
            sessions.end(record.id)
            actions.add(Action(f"session {record.id}", "sign out", record.role.value))
        response = _page(f"Signed out. {_NEW_LINK}")
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return router


def _signed_in_text(record: SessionRecord) -> str:
    rights = f"may {'read and act' if record.role.may_act else 'read'} until {record.expires_at:%Y-%m-%d %H:%M} UTC"
    return f"Signed in as {record.role.value}: this browser {rights}."


def _page(text: str, status: HTTPStatus = HTTPStatus.OK, head: str = "") -> HTMLResponse:
    """Return a page with `text`, which holds nothing that a client has sent."""
    content = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Sluice</title>{head}</head>'
        f"<body><h1>Sluice</h1><p>{text}</p></body></html>"
    )
    challenge = CHALLENGE if status is HTTPStatus.UNAUTHORIZED else {}
    return HTMLResponse(content, status, headers={**_NO_STORE, **challenge})
