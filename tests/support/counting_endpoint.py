"""An endpoint of jobs that counts: which attempts of which runs have requested it, when, and what it has answered."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

Answer = tuple[int, float]
"""A status, and the seconds until it is sent. Of status 0 the connection is closed."""


class Sent(NamedTuple):
    """A request: the number of its attempt, its path, when it came in seconds since 1970, and its status."""

    attempt: int
    path: str
    at: float
    status: int


class CountingEndpoint:
    """The endpoint at `url`. `answer` is asked with the run, the attempt and the path of each request."""

    def __init__(self, answer: Callable[[str, int, str], Answer]) -> None:
        self.requests: dict[str, list[Sent]] = defaultdict(list)
        """By run."""
        self.at_once: dict[str, int] = {}
        """The most requests that were under way at a time, by job."""
        self._answer = answer
        self._under_way: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                endpoint.handle(self)

            def log_message(self, *_: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_: object) -> None:
                return  # a worker that was killed

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Count a request, and answer it."""
        run, job = request.headers["X-Run-ID"], request.headers["X-Job-ID"]
        attempt = int(request.headers["X-Attempt"])
        request.rfile.read(int(request.headers["Content-Length"]))
        status, delay = self._answer(run, attempt, request.path)
        with self._lock:
            self.requests[run].append(Sent(attempt, request.path, time.time(), status))
            self._under_way[job] += 1
            self.at_once[job] = max(self.at_once.get(job, 0), self._under_way[job])
        time.sleep(delay)
        with self._lock:
            self._under_way[job] -= 1
        if not status:
            request.close_connection = True
            return
        request.send_response(status)
        request.send_header("Content-Length", "2")
        request.end_headers()
        request.wfile.write(b"{}")

    def count(self) -> int:
        """Return the number of all requests."""
        with self._lock:
            return sum(map(len, self.requests.values()))

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def counting(answer: Callable[[str, int, str], Answer]) -> Iterator[CountingEndpoint]:
    """Run an endpoint until the end of the block."""
    endpoint = CountingEndpoint(answer)
    try:
        yield endpoint
    finally:
        endpoint.close()
