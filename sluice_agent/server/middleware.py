"""Behaviour common to the responses of all routes."""

from __future__ import annotations

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_agent.log import log_failure
from sluice_agent.server.errors import internal_error_response, shutdown_response
from sluice_agent.server.security_headers import SECURITY_HEADERS

IS_HEAD = "sluice_agent.is_head"
"""The key in a scope that is true for a HEAD: a route sees it as a GET, and must not let it change anything."""


class ServerMiddleware:
    """Add the common headers, answer HEAD where GET is, and turn an unexpected exception into a logged 500.

    Left to the framework, such an exception would also close the connection under the client's next request. A request
    that is cancelled because the server shuts down is answered with 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"
        has_started = False

        async def send_common(message: Message) -> None:
            nonlocal has_started
            has_started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Accept-Encoding"] = "gzip"
                headers.update(SECURITY_HEADERS)
                headers.setdefault("Cache-Control", "no-store")  # a record may have arguments and results
            elif is_head:
                return
            await send(message)
            if is_head:
                await send({"type": "http.response.body"})  # at once: a stream would not end by itself

        try:
            await self._app({**scope, "method": "GET", IS_HEAD: True} if is_head else scope, receive, send_common)
        except asyncio.CancelledError:
            if not has_started:
                await shutdown_response()(scope, receive, send_common)
        except Exception as error:  # noqa: BLE001 - of any route
            log_failure(error, "%s %s failed", scope["method"], scope["path"])
            if not has_started:  # else uvicorn closes the connection
                await internal_error_response()(scope, receive, send_common)
