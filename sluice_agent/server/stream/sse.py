"""The response: a stream of shared bytes that ends with its client, with the server, or by a cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Protocol

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sluice_agent.server.stream.frame_types import Types
from sluice_agent.server.stream.hub import Hub
from sluice_agent.server.stream.replay import StoredConnection
from sluice_agent.server.stream.subscriber import Subscriber
from sluice_agent.server.stream.subscription import subscribe

CLIENT_CONNECTION = "client_connection"
"""The key in a request's state under which the HTTP protocol gives its connection."""

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ClientConnection(Protocol):
    """What a stream needs of the connection it is sent on."""

    def begin_stream(self, end: Callable[[], None]) -> None:
        """Prepare for a response that lasts; `end` is called when the server shuts down."""

    def abort(self) -> None:
        """Close at once, without sending what is in the buffers."""


class EventStream(Response):
    """The frames of one connection from `last_id` on, as long as `may_read` returns true."""

    media_type = "text/event-stream"

    def __init__(
        self,
        hub: Hub,
        connection: StoredConnection,
        types: Types,
        last_id: str | None,
        may_read: Callable[[], bool],
    ) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._hub = hub
        self._connection = connection
        self._types = types
        self._last_id = last_id
        self._may_read = may_read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client or the server ends it."""
        client: ClientConnection = scope["state"][CLIENT_CONNECTION]
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        with self._hub.subscriber(client.abort) as subscriber:
            client.begin_stream(subscriber.end)
            await self._send_chunks(subscriber, receive, send)
        await send({"type": "http.response.body"})

    async def _send_chunks(self, subscriber: Subscriber, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        watches = [
            loop.create_task(_end_when_the_client_leaves(subscriber, receive)),
            loop.create_task(_end_when_access_ends(subscriber, self._may_read, self._hub.limits.access)),
        ]
        chunks = subscribe(self._hub, self._connection, self._types, self._last_id, subscriber)
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    subscriber.sending_since = loop.time()
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    subscriber.sending_since = None
        finally:
            for watch in watches:
                watch.cancel()


async def _end_when_the_client_leaves(subscriber: Subscriber, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscriber.end()


async def _end_when_access_ends(subscriber: Subscriber, may_read: Callable[[], bool], interval: float) -> None:
    try:
        await asyncio.sleep(interval)
        while await run_in_threadpool(may_read):
            await asyncio.sleep(interval)
    finally:  # also if the database can't answer: the client then asks again
        subscriber.end()
