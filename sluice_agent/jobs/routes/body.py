"""The body of a request to ``/v1``, read once it is known who sends it: JSON, whatever its Content-Type."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from sluice_agent.jobs.json_text import parse
from sluice_agent.jobs.routes.access import identify_caller
from sluice_agent.server.errors import RefusedError

BODY_LIMIT = 1_048_576
"""Bytes of a request's body."""

_CONTENT_TYPE = (b"content-type", b"application/json")
_PLAIN = ("", "identity")


class JsonRequest(Request):
    """A request whose body is JSON. An empty body is the empty object."""

    async def body(self) -> bytes:
        """Return the body. Raises `RefusedError` if it is too large, compressed, or ends early."""
        if not hasattr(self, "_body"):
            if self.headers.get("content-encoding", "").lower() not in _PLAIN:
                raise RefusedError(415, "The body must not be compressed: send it without Content-Encoding.")
            chunks = bytearray()
            try:
                async for chunk in self.stream():
                    chunks += chunk
                    if len(chunks) > BODY_LIMIT:
                        raise RefusedError(413, f"The body is larger than {BODY_LIMIT} bytes.")
            except ClientDisconnect:
                raise RefusedError(400, "The body ended early.") from None
            self._body = bytes(chunks).strip() or b"{}"
        return self._body

    async def json(self) -> Any:
        """Return the value in the body. Raises `RefusedError` if it is no JSON."""
        if not hasattr(self, "_json"):
            body = await self.body()
            try:
                self._json = await run_in_threadpool(parse, body)
            except ValueError as error:
                raise RefusedError(400, f"The body is not JSON that can be used: {error}.") from None
        return self._json


class JsonRoute(APIRoute):
    """A route that reads no body before it is known who sends it, and then takes it as JSON."""

    @staticmethod
    def identify(request: Request) -> None:
        """Find out who sends a request. It blocks. Raises `RefusedError` if the sender may not."""
        raise NotImplementedError

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the framework, which reads the body, behind that check."""
        handle = super().get_route_handler()

        async def handle_known(request: Request) -> Response:
            await run_in_threadpool(type(self).identify, request)
            headers = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
            scope = {**request.scope, "headers": [*headers, _CONTENT_TYPE]}
            json_request = JsonRequest(scope, request.receive)
            if self.body_field is not None:
                await json_request.json()  # here: the framework would hide why it failed
            return await handle(json_request)

        return handle_known


class KeyFirst(JsonRoute):
    """A route for those who have a key."""

    @staticmethod
    def identify(request: Request) -> None:
        """Find the owner of the key."""
        identify_caller(request)
