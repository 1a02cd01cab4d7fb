"""An endpoint that accepts everything without parsing it, and counts it: a real one would be on another machine."""

from __future__ import annotations

import gzip
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.benchmarks.variants import Marks

_AN_EVENT = b'{"type":"'


@dataclass(slots=True)
class Received:
    """What has arrived. `size` is in bytes, with the headers of the requests."""

    requests: int = 0
    size: int = 0
    events: int = 0
    states: Counter[str] = field(default_factory=Counter)


class LightEndpoint:
    """Accepts every request; `marks` are counted in its body."""

    def __init__(self, marks: Marks | None = None) -> None:
        self.received = Received()
        self._marks = marks or {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, head: int, body: bytes, encoding: str | None) -> int:
        """Count a request whose line and headers have `head` bytes; return the number of its events."""
        size = head + len(body)
        if encoding == "gzip":
            body = gzip.decompress(body)
        events = body.count(_AN_EVENT)
        states = {state: len(mark.findall(body)) for state, mark in self._marks.items()}
        with self._lock:
            self.received.requests += 1
            self.received.size += size
            self.received.events += events
            self.received.states.update(states)
        return events


def _handler(endpoint: LightEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # the whole answer in one piece

        def do_POST(self) -> None:
            head = len(self.requestline) + len(bytes(self.headers))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            events = endpoint.take(head, body, self.headers["Content-Encoding"])
            answer = json.dumps({"accepted": events, "rejected": 0, "skipped": 0, "truncated": 0}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    return Handler
