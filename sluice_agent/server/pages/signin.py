"""``/login`` and ``/logout``: exchange the token of a sign-in link for a session's cookie, and end the session.

The page that answers the link loads another one of this server by itself: so the token leaves the address, and the
browser sends the cookie, which it would withhold from a redirect if another site had opened the link.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from sluice_agent.server.access.audit import AuditEntry
from sluice_agent.server.access.exposure import is_secure
from sluice_agent.server.access.gate import session_secret
from sluice_agent.server.access.principal import COOKIE
from sluice_agent.server.access.same_origin import is_from_own_page
from sluice_agent.server.access.sessions import SESSION_AGE, Session
from sluice_agent.server.errors import CHALLENGE, Docs, RefusedError
from sluice_agent.server.middleware import IS_HEAD
from sluice_agent.server.pages.render import NO_STORE, Layout, render
from sluice_agent.server.pages.sources import Sources


class SigninView(NamedTuple):
    """Who is signed in, and what else is known of the request for the page."""

    session: Session | None = None
    heading: str = "Not signed in"
    reason: str = ""
    continues: bool = False
    """True if the browser goes on to the first page."""


def signin_router(sources: Sources) -> APIRouter:
    """Return the routes by which a browser signs in and out."""
    router = APIRouter()
    sessions = sources.access.sessions

    def page(request: Request, view: SigninView, status: HTTPStatus = HTTPStatus.OK) -> HTMLResponse:
        challenge = CHALLENGE if status is HTTPStatus.UNAUTHORIZED else {}
        layout = Layout("login", view.heading, sources.now())
        return render(request, "signin.html", layout, view, status, {**NO_STORE, **challenge})

    @router.get("/login")
    def login(request: Request, token: str | None = None) -> HTMLResponse:
        is_preview = request.scope.get(IS_HEAD, False)  # of a program that checks links: the token must still work
        return _sign_in(request, token) if token is not None and not is_preview else _status(request)

    def _sign_in(request: Request, token: str) -> HTMLResponse:
        signed_in = sessions.sign_in(token)
        if signed_in is None:
            reason = "This sign-in link was used, or is more than a day old."
            return page(request, SigninView(reason=reason), HTTPStatus.UNAUTHORIZED)
        session, secret = signed_in
        response = page(request, SigninView(session, _signed_in(session), continues=True))
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
        session = sessions.find(session_secret(request) or "")
        return page(request, SigninView() if session is None else SigninView(session, _signed_in(session)))

    @router.post("/logout")
    def logout(request: Request) -> HTMLResponse:
        if not is_from_own_page(request):
            raise RefusedError(403, "Sign out from a page of this server.", docs=Docs.AUTH)
        session = sessions.find(session_secret(request) or "")
        if session is not None:
            sessions.end(session.id, AuditEntry(f"session {session.id}", "sign out", session.role.value))
        response = page(request, SigninView(heading="Signed out"))
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return router


def _signed_in(session: Session) -> str:
    return f"Signed in as {session.role.value}"
