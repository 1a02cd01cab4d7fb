"""Behaviour common to the responses of all routes of ``/v1``."""

from __future__ import annotations

import asyncio
import logging
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_agent.jobs.routes.errors import REQUEST_ID, error_response

_HEADER = "X-Request-Id"
_ID = re.compile(r"[\x21-\x7e]{1,128}")  # of a client's own; another one is replaced

_log = logging.getLogger("sluice_agent.server")


class Conventions:
    """Give each request an id, which its response repeats, and answer failures in the format of ``/v1``.

    A request that is cancelled because the server shuts down is answered with 503, and an unexpected exception is a
    logged 500.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        given = Headers(scope=scope).get(_HEADER, "")
        request_id = scope[REQUEST_ID] = given if _ID.fullmatch(given) else uuid.uuid4().hex
        has_started = False

        async def send_common(message: Message) -> None:
            nonlocal has_started
            has_started = True
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update({"X-API-Version": "v1", _HEADER: request_id})
            await send(message)

        try:
            await self._app(scope, receive, send_common)
        except asyncio.CancelledError:
            if not has_started:
                message, headers = "The server is shutting down.", {"Connection": "close"}
                await error_response(scope, 503, message, headers=headers)(scope, receive, send_common)
        except Exception as error:
            if has_started:
                raise
            _log.error("%s %s failed (request %s)", scope["method"], scope["path"], request_id, exc_info=error)
            message = "The server failed; its log has the reason."
            await error_response(scope, 500, message)(scope, receive, send_common)
