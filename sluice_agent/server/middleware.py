"""What holds for every answer, whichever route gave it."""

from __future__ import annotations

import asyncio
import logging

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_agent.server.errors import ending, unforeseen

_log = logging.getLogger("sluice_agent.server")


class ServerMiddleware:
    """Announces that requests may be compressed, and turns an exception that nobody expected into a logged 500.

    Left to the framework, such an exception would also close the connection under the client's next request. A request
    that is cancelled, as the server ends before it does, is answered by 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def announcing(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Accept-Encoding"] = "gzip"
            await send(message)

        try:
            await self._app(scope, receive, announcing)
        except asyncio.CancelledError:
            if not started:
                await ending()(scope, receive, announcing)
        except Exception as error:
            if started:
                raise
            _log.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
            await unforeseen()(scope, receive, announcing)
