"""Errors as pages, where a browser asks for one: with the sentence of the API's error, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_agent.server.pages.forms import SENT_FORM, SentForm
from sluice_agent.server.pages.render import JOBS_API_PATHS, NO_STORE, Layout, render

_ERRORS_FROM = 400
_HEADINGS = {
    400: "This address is not valid",
    401: "Sign in to see this page",
    403: "You may not see this page",
    404: "There is nothing here",
    409: "This can’t be done now",
    421: "Not the name of this server",
    500: "The server failed",
    503: "Not available now",
}
_REFUSALS = {400: "This was not done", 401: "Sign in to do this", 403: "You may not do this", 409: "This was not done"}
_NO_ROUTE = "Not Found."  # the framework's
_NO_PAGE = "No page of this server has this address."
_FOR_PROGRAMS = ("/api/", "/v1/")
_LINKS = (("Now", "/"), ("Jobs", "/jobs"))
_OF_JOBS_API = (("Runs", "/runs"), ("Job definitions", "/definitions"))
_HIDDEN = ("token", "version", "changes", "project", "finished_at", "run", "do")  # fields that are not typed
_OF_THE_BODY = ("content-type", "content-length")


@dataclass(frozen=True, slots=True)
class ErrorView:
    """An error: what it is, its sentence, a message for each wrong parameter, and where a reader can go on.

    `is_of_form` if a form was sent, and `typed` are the fields of it that were typed.
    """

    status: int
    heading: str
    message: str
    details: Mapping[str, str]
    links: Sequence[tuple[str, str]]
    is_of_form: bool
    typed: Sequence[tuple[str, str]]


class ErrorPages:
    """Answer with a page where another part of the server answers a browser's navigation with an error.

    A browser accepts ``text/html``. Addresses below ``/api`` and ``/v1`` are not for browsers.
    """

    def __init__(self, app: ASGIApp, now: Callable[[], datetime]) -> None:
        self._app = app
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if not _is_navigation(scope):
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        start: Message = {}
        body = bytearray()

        async def send_page(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_error(message):
                start = message
            elif not start:
                await send(message)
            else:
                body.extend(message.get("body", b""))
                if not message.get("more_body", False):
                    page = self._page(Request(scope), start["status"], bytes(body), Headers(raw=start["headers"]))
                    await page(scope, receive, send)

        await self._app(scope, receive, send_page)

    def _page(self, request: Request, status: int, body: bytes, headers: Headers) -> ASGIApp:
        error = json.loads(body)["error"]
        headings = _HEADINGS if request.method == "GET" else {**_HEADINGS, **_REFUSALS}
        heading = headings.get(status) or HTTPStatus(status).phrase
        message = _NO_PAGE if error["message"] == _NO_ROUTE else error["message"]
        has_jobs_api = getattr(request.app.state, "has_jobs_api", False)
        links: Sequence[tuple[str, str]] = (
            _OF_JOBS_API if has_jobs_api and request.url.path.startswith(JOBS_API_PATHS) else _LINKS
        )
        if status == HTTPStatus.BAD_REQUEST and request.method == "GET" and request.url.query:
            links = [("This page without parameters", request.url.path), *links]
        view = ErrorView(
            status, heading, message, error.get("details", {}), links, request.method == "POST", _typed_in(request)
        )
        kept = {name: value for name, value in headers.items() if name not in _OF_THE_BODY}
        layout = Layout("error", heading, self._now())
        return render(request, "error.html", layout, view, status, {**kept, **NO_STORE})


def _typed_in(request: Request) -> list[tuple[str, str]]:
    """Return what was typed in the form that a request has sent, of those that hold much text."""
    form: SentForm | None = request.scope["state"].get(SENT_FORM)
    if form is None or not request.url.path.startswith(JOBS_API_PATHS):
        return []
    return [(name, value) for name, value in form.fields if name not in _HIDDEN and value.strip()]


def _is_navigation(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] == "HEAD" or scope["path"].startswith(_FOR_PROGRAMS):
        return False
    return "text/html" in Headers(scope=scope).get("accept", "")


def _is_error(start: Message) -> bool:
    is_json = Headers(raw=start["headers"]).get("content-type", "").startswith("application/json")
    return is_json and start["status"] >= _ERRORS_FROM
