"""Refuse requests by a name that is not the server's: a page elsewhere may have rebound that name to this address."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_agent.server.access.exposure import Exposure
from sluice_agent.server.errors import error_response


class HostCheck:
    """Answer 421 to a request whose Host header `exposure` does not allow. Without the header no browser sent it."""

    def __init__(self, app: ASGIApp, exposure: Exposure) -> None:
        self._app = app
        self._exposure = exposure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        host = Headers(scope=scope).get("host") if scope["type"] == "http" else None
        if host is None or self._exposure.allows_host(host):
            await self._app(scope, receive, send)
            return
        message = (
            "This server does not answer to the name in the Host header. Start it with --allow-host and that name."
        )
        await error_response(421, message)(scope, receive, send)
