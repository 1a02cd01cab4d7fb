"""An endpoint that accepts everything without parsing it, and counts it: a real one would be on another machine."""

from __future__ import annotations

import gzip
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import IO

from tests.benchmarks.variants import Marks

_AN_EVENT = b'{"type":"'
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_GZIP = re.compile(rb"\r\ncontent-encoding: *gzip", re.IGNORECASE)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


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
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def take(self, head: bytes, body: bytes) -> int:
        """Count a request whose line and headers are `head`; return the number of its events."""
        size = len(head) + len(body)
        if _GZIP.search(head):
            body = gzip.decompress(body)
        events = body.count(_AN_EVENT)
        states = {state: len(mark.findall(body)) for state, mark in self._marks.items()}
        with self._lock:
            self.received.requests += 1
            self.received.size += size
            self.received.events += events
            self.received.states.update(states)
        return events


class _Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128


def _handler(endpoint: LightEndpoint) -> type[StreamRequestHandler]:
    class Handler(StreamRequestHandler):
        """Reads no more of a request than it must: Python's own HTTP server takes as long as the shipper."""

        disable_nagle_algorithm = True

        def handle(self) -> None:
            while head := _head(self.rfile):
                length = _LENGTH.search(head)
                events = endpoint.take(head, self.rfile.read(int(length[1]) if length else 0))
                answer = json.dumps({"accepted": events, "rejected": 0, "skipped": 0, "truncated": 0}).encode()
                self.wfile.write(_ANSWER % (len(answer), answer))

    return Handler


def _head(file: IO[bytes]) -> bytes:
    """Return the line and the headers of the next request; empty if there is none."""
    lines = []
    for line in file:
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    return b""
