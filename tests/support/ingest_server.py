"""The HTTP server of the tests' endpoint: it checks requests, and answers in full, in part, slowly or never."""

from __future__ import annotations

import gzip
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

from tests.support.misbehaviour import error_body
from tests.support.wire import body_faults

if TYPE_CHECKING:
    from tests.support.endpoint import Endpoint

Event = dict[str, Any]


@dataclass(slots=True)
class Request:
    """A received request, and how it was answered."""

    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""
    raw: bytes
    """The body as received."""
    at: float = field(default_factory=time.monotonic)
    body: bytes = b""
    """The decompressed body."""
    events: list[Event] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    status: int | None = None
    """None: no answer was sent, or not all of it."""
    answer: dict[str, Any] | None = None
    """The counts that were sent or lost; None if nothing was accepted."""


class Exchange:
    """A request that waits for its answer: the interface for behaviours."""

    def __init__(self, endpoint: Endpoint, handler: IngestHandler, request: Request) -> None:
        self.request = request
        self._endpoint = endpoint
        self._handler = handler

    def accept(self, *, reject: Callable[[Event], bool] | None = None, keep: int | None = None) -> bytes:
        """Accept the events, and return the answer's body without sending it."""
        return json.dumps(self._endpoint.accept(self.request, reject=reject, keep=keep)).encode()

    def send(self, code: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send the whole answer."""
        self.request.status = code
        self._handler.wfile.write(self._head(code, len(body), headers) + body)

    def send_half(self, code: int, body: bytes, *, has_length: bool = True) -> None:
        """Send the head and half of the body; without its length it ends with the connection."""
        head = self._head(code, len(body)) if has_length else f"HTTP/1.1 {code} Answer\r\n\r\n".encode()
        self._handler.wfile.write(head + body[: len(body) // 2])

    def send_slowly(self, code: int, body: bytes, seconds_per_byte: float) -> None:
        """Send the answer byte by byte."""
        for byte in self._head(code, len(body)) + body:
            self._handler.wfile.write(bytes([byte]))
            time.sleep(seconds_per_byte)
        self.request.status = code

    def send_headers_without_an_end(self, seconds_per_byte: float) -> None:
        """Send a status and a header byte by byte, until the client disconnects or has received five hundred bytes."""
        head = b"HTTP/1.1 200 Answer\r\nX-Filler: "
        with suppress(OSError):
            for byte in chain(head, repeat(ord("x"), 500)):
                self._handler.wfile.write(bytes([byte]))
                time.sleep(seconds_per_byte)
        self._handler.close_connection = True

    def reset(self) -> None:
        """Close the connection with an RST."""
        self._handler.reset()

    def wait_for_release(self) -> None:
        """Hold the connection until the test calls `release()` or `down()`."""
        self._endpoint.wait_for_release()

    def _head(self, code: int, length: int, headers: Mapping[str, str] | None = None) -> bytes:
        all_headers = {"Content-Type": "application/json", "Content-Length": str(length)}
        if self._endpoint.takes_gzip:
            all_headers["Accept-Encoding"] = "gzip"
        all_headers.update(headers or {})
        lines = [f"HTTP/1.1 {code} Answer", *(f"{name}: {value}" for name, value in all_headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class IngestServer(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, endpoint: Endpoint, port: int) -> None:
        self.endpoint = endpoint
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), IngestHandler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of the host's full name, which may ask a name server."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""

    def end_connections(self) -> None:
        for connection in list(self.connections):
            with suppress(OSError):  # the client disconnected first
                connection.shutdown(socket.SHUT_RDWR)


class IngestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: IngestServer

    def setup(self) -> None:
        self.server.connections.add(self.request)
        super().setup()

    def finish(self) -> None:
        self.server.connections.discard(self.request)
        super().finish()

    def do_POST(self) -> None:
        endpoint = self.server.endpoint
        headers = {name.lower(): value for name, value in self.headers.items()}
        length = int(headers.get("content-length", 0))
        raw = self.rfile.read(length)
        if len(raw) < length:  # the client died while it sent
            self.close_connection = True
            return
        request = Request("POST", self.path, headers, raw)
        if not endpoint.is_up_on(self.server):
            self.reset()
            return
        refusal = endpoint.read(request)
        endpoint.record(request)
        exchange = Exchange(endpoint, self, request)
        if refusal is not None:
            exchange.send(*refusal)
            return
        for behaviour in endpoint.behaviours():
            if behaviour(exchange):
                return

    def do_GET(self) -> None:
        request = Request("GET", self.path, {name.lower(): value for name, value in self.headers.items()}, b"")
        Exchange(self.server.endpoint, self, request).send(404, error_body(404))

    def reset(self) -> None:
        """Send an RST at once: `close` would wait for the files that read from the socket."""
        self.close_connection = True
        with suppress(OSError):  # the client disconnected first
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def log_message(self, *args: Any) -> None:  # the tests read `requests`
        pass


def read(request: Request, endpoint: Endpoint) -> tuple[int, bytes] | None:
    """Set the request's body, events and faults; return status and body if it must be refused, whatever the script."""
    if request.path != "/api/ingest":
        request.faults.append(f"path is {request.path!r}, not '/api/ingest'")
        return 404, error_body(404, "no such path")
    if "content-length" not in request.headers:
        request.faults.append("Content-Length is missing")
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        request.faults.append(f"Content-Type is {request.headers.get('content-type')!r}, not 'application/json'")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding == "gzip" and endpoint.takes_gzip:
        request.body = gzip.decompress(request.raw)
    elif encoding == "identity":
        request.body = request.raw
    else:
        request.faults.append(f"Content-Encoding is {encoding!r}, which was never announced")
        return 415, error_body(415, "no such encoding here")
    request.faults.extend(body_faults(request.body))
    if endpoint.key is not None and request.headers.get("authorization") != f"Bearer {endpoint.key}":
        return 401, error_body(401, "no such key")
    try:
        request.events = [event for event in json.loads(request.body)["events"] if isinstance(event, dict)]
    except (ValueError, TypeError, LookupError):
        return 400, error_body(400, "the body is no batch of events")
    return None
