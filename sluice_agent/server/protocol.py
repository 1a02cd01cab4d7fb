"""Uvicorn's HTTP/1.1, extended by deadlines for clients and by protocol errors in the API's format."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sluice_agent.server.errors import error_response
from sluice_agent.server.security_headers import SECURITY_HEADERS
from sluice_agent.server.stream.sse import CLIENT_CONNECTION

_STREAM_BUFFER = 131_072
"""Bytes of a stream in the kernel's buffer. Without a bound it takes megabytes for a client that does not read."""

_HEAD = 65_536
"""Bytes of the request line and the headers, as uvicorn limits them."""

_CHUNKS = 1_000
"""Chunks that a body may have, whatever their size."""

_CHUNK = 64
"""Bytes that further ones must have on average."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a client has for each part of an exchange, even if it sends byte by byte."""

    head: float = 10.0
    """For the request line and the headers, from the time at which the connection is free for them."""

    body: float = 60.0
    """For the body, from the end of the headers: time for the largest body that is accepted, at 80 kB a second."""

    response: float = 60.0
    """For reading the response."""

    shutdown: float = 3.0
    """For the rest of a body, or of a stream, once the server shuts down: less than the grace period of requests."""


class _Connection(h11.Connection):
    """h11's state of a connection, in which a body of many small chunks is an error: each takes as long as a kilobyte
    of a body in one piece, and all other clients wait."""

    _chunks = _bytes = 0

    def next_event(self) -> Any:
        """Return the next event that was received."""
        event = super().next_event()
        if type(event) is h11.Data:
            self._chunks += 1
            self._bytes += len(event.data)
            if self._chunks > _CHUNKS + self._bytes // _CHUNK:
                raise h11.RemoteProtocolError("the chunks are too small")
        elif type(event) is h11.Request:
            self._chunks = self._bytes = 0
        return event


class Protocol(H11Protocol):
    """One connection. A request that is not complete in time is answered with 408, or with 503 during a shutdown."""

    deadlines = Deadlines()

    _phase: tuple[Any, Any] | None = None  # the last or current request, and h11's state of the client
    _timer: asyncio.TimerHandle | None = None
    _response_timer: asyncio.TimerHandle | None = None
    _end_stream: Callable[[], None] | None = None
    _is_shutting_down = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = _Connection(h11.SERVER, _HEAD)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Start the timer for the first request."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, CLIENT_CONNECTION: self}
        self._restart_timer()

    def begin_stream(self, end: Callable[[], None]) -> None:
        """Prepare for a response that lasts; `end` is called when the server shuts down, or if the client has left."""
        if self.transport.is_closing():
            end()
            return
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _STREAM_BUFFER)
        self._end_stream = end
        if self._is_shutting_down:
            end()

    def abort(self) -> None:
        """Close the connection without sending what is in its buffer."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        for timer in (self._timer, self._response_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle the received events, and restart the timer."""
        super().handle_events()
        self._restart_timer()

    def on_response_complete(self) -> None:
        """Start the timers for reading the response and for the next request."""
        self._end_stream = None
        super().on_response_complete()
        self._restart_timer()
        if self.transport.get_write_buffer_size():
            self._response_timer = self.loop.call_later(self.deadlines.response, self._abort_slow_reader, self.cycle)

    def shutdown(self) -> None:
        """End a stream, and leave a partly received request a few seconds to arrive."""
        self._is_shutting_down = True
        super().shutdown()
        if self._end_stream is not None:
            self._end_stream()
            self.loop.call_later(self.deadlines.shutdown, self.abort)
        if not self.transport.is_closing() and self._timer is not None:
            self._timer.cancel()
            seconds = self.deadlines.shutdown
            self._timer = self.loop.call_later(seconds, self._refuse, 503, "The server is shutting down.")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is not used
        """Answer a request that is not HTTP."""
        self._refuse(400, "The request is not valid HTTP/1.1, or its body has very many small chunks.")

    def _restart_timer(self) -> None:
        """Set the timer of the client's phase, if the phase has changed."""
        phase = self.cycle, self.conn.their_state
        if phase == self._phase:
            return
        self._phase = phase
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.conn.their_state is h11.IDLE:
            self._timer = self.loop.call_later(self.deadlines.head, self._refuse, 408, "The headers took too long.")
        elif self.conn.their_state is h11.SEND_BODY:
            self._timer = self.loop.call_later(self.deadlines.body, self._refuse, 408, "The body took too long.")

    def _refuse(self, status: int, message: str) -> None:
        """Answer an incomplete request, if one has begun, and close the connection."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # a later response of the API is discarded
            self.cycle.message_event.set()
        is_partial = self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]
        if is_partial and self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            response = error_response(status, message)
            response.headers.update({**SECURITY_HEADERS, "Connection": "close"})
            for event in (
                h11.Response(status_code=status, headers=response.raw_headers),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _abort_slow_reader(self, cycle: Any) -> None:
        if cycle is self.cycle and self.transport.get_write_buffer_size():
            self.transport.abort()
