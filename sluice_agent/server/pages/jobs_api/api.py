"""Requests of pages to the jobs API of the same server, in the name of who has sent the form, and by its rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Message

from sluice_agent.jobs.json_text import dumps, parse
from sluice_agent.jobs.routes.new_id import NEW_ID
from sluice_agent.server.errors import RefusedError

_OF_THE_BODY = (b"accept", b"accept-encoding", b"content-encoding", b"content-length", b"content-type", b"x-request-id")
_ERRORS_FROM = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API: its status, and the value in its body, None without one."""

    status: int
    body: Any

    @property
    def is_refusal(self) -> bool:
        """True if nothing was done."""
        return self.status >= _ERRORS_FROM

    @property
    def message(self) -> str:
        """The sentence of a refusal."""
        return str(self.body["error"]["message"])

    @property
    def details(self) -> Sequence[str]:
        """What is wrong, of a refusal: lines such as ``slug: is missing``."""
        details: Sequence[str] = self.body["error"].get("details", [])
        return details

    @property
    def reasons(self) -> Sequence[str]:
        """What is wrong, for a form with a single field: without the name that this has in the API."""
        return [line.partition(": ")[2] or line for line in self.details] or [self.message]

    def raise_refusal(self) -> None:
        """Raise `RefusedError` if nothing was done."""
        if self.is_refusal:
            raise RefusedError(self.status, " ".join([self.message, *(f"{line}." for line in self.details)]))


def part_of_path(id_: str) -> str:
    """Return an id as a part of a path of the API. Raises `RefusedError` (404) if it can't be an id."""
    if not id_.replace("-", "").replace("_", "").isalnum() or not id_.isascii():
        raise RefusedError(404, "There is nothing with this id.")
    return id_


class Api:
    """The routes of the jobs API."""

    def __init__(self, routes: ASGIApp) -> None:
        self._routes = routes

    async def send(
        self,
        request: Request,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        new_id: str | None = None,
    ) -> Answer:
        """Send `body`, as JSON, to a path below ``/v1``, with the key or session of `request`.

        `new_id`, of a form, is that of what the request makes: however often the form is sent, and to whichever server,
        it is made once.
        """
        kept = [pair for pair in request.scope["headers"] if pair[0] not in _OF_THE_BODY]
        own = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        content = b"" if body is None else dumps(body).encode()
        scope = {
            **{name: request.scope[name] for name in ("type", "asgi", "http_version", "scheme", "client", "server")},
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [*kept, *own],
            **({} if new_id is None else {NEW_ID: new_id}),
        }
        status = 0
        received = bytearray()

        async def receive() -> Message:
            return {"type": "http.request", "body": content, "more_body": False}

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                received.extend(message.get("body", b""))

        await self._routes(scope, receive, note)
        return Answer(status, parse(bytes(received)) if received else None)
