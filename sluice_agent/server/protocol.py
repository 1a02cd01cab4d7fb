"""HTTP/1.1 as uvicorn speaks it, and what that lacks: deadlines for clients, and faults in the API's own format."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from sluice_agent.server.errors import answer


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that a client has for a part of an exchange, however it drips."""

    head: float = 10.0
    """For the request line and the headers, from when the connection is free for them."""

    body: float = 60.0
    """For the body, from the end of the headers: the longest that is taken, at 80 kB a second."""

    reading: float = 60.0
    """For taking the answer."""

    ending: float = 3.0
    """For the rest of a body once the server is to end: less than the grace that it gives to requests under way."""


class Protocol(H11Protocol):
    """One connection. A request that is not there in time is answered by 408, or by 503 where the server ends."""

    deadlines = Deadlines()

    _phase: tuple[Any, Any] | None = None  # the request before or at hand, and h11's state of the client
    _timer: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        for timer in (self._timer, self._reading):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has come."""
        super().handle_events()
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the client to take the answer, and for the next request."""
        super().on_response_complete()
        self._watch()
        if self.transport.get_write_buffer_size():
            self._reading = self.loop.call_later(self.deadlines.reading, self._give_up_reader, self.cycle)

    def shutdown(self) -> None:
        """Let a request that is on its way arrive, for a moment."""
        super().shutdown()
        if not self.transport.is_closing() and self._timer is not None:
            self._timer.cancel()
            self._timer = self.loop.call_later(self.deadlines.ending, self._refuse, 503, "The server ends.")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """Answer what is not HTTP."""
        self._refuse(400, "The request is not HTTP/1.1 as it should be.")

    def _watch(self) -> None:
        """Set the timer of the phase that the client is in, if it has just come to it."""
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
        """Answer a request that is not there, where there is the beginning of one, and end the connection."""
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # what the API says after this goes nowhere
            self.cycle.message_event.set()
        has_begun = self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]
        if has_begun and self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            response = answer(status, message)
            headers = [*response.raw_headers, (b"connection", b"close")]
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=bytes(response.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _give_up_reader(self, cycle: Any) -> None:
        if cycle is self.cycle and self.transport.get_write_buffer_size():
            self.transport.abort()
