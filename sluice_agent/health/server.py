"""``/healthz``, ``/readyz`` and ``/metrics``, from a thread of their own, on the standard library's server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sluice_agent.errors import ConfigError
from sluice_agent.health.snapshot import Health
from sluice_agent.log import complain

_FRESH = 5.0  # seconds that one look serves all who ask: it reads what waits, 0.4 s for a full journal
_TEXT = "text/plain; charset=utf-8"
_PATIENCE = 10.0  # seconds for a client to send its request


def serve_health(address: str, probe: Callable[[], Health]) -> HealthServer:
    """Answer probes at `address`, ``[host]:port``; without a host, on all of this machine's. `probe` is asked for what
    there is to say, and may raise.

    ``/healthz`` answers 200 while the process runs; ``/readyz`` answers 200, or 503 with a line for each problem;
    ``/metrics`` is for Prometheus. Raises `ConfigError` where nobody can listen there, or prometheus_client is missing.
    """
    try:
        from sluice_agent.health.metrics import metrics_page  # noqa: PLC0415 - an extra: see below
    except ImportError:
        raise ConfigError(
            "SLUICE_HEALTH_ADDR needs prometheus_client: pip install 'sluice-agent[monitor]', or unset it"
        ) from None
    host, _, port = address.rpartition(":")
    try:
        return HealthServer(host.strip("[]"), int(port), probe, metrics_page)
    except OSError as error:
        raise ConfigError(f"SLUICE_HEALTH_ADDR is {address!r}, and nothing can listen there: {error}") from None


class HealthServer:
    """The server, in a thread; ``port`` is where it listens."""

    def __init__(
        self,
        host: str,
        port: int,
        probe: Callable[[], Health],
        metrics: Callable[[Callable[[], Health], str], tuple[bytes, str]],
    ) -> None:
        self._server = _Server(host, port)
        self._server.look = _Look(probe)
        self._server.metrics = metrics
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="sluice-health", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the socket, and end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Look:
    """The latest health, at most `_FRESH` seconds old; one thread at a time looks anew."""

    def __init__(self, probe: Callable[[], Health]) -> None:
        self._probe = probe
        self._lock = threading.Lock()
        self._last: Health | None = None
        self._at = 0.0

    def __call__(self) -> Health:
        with self._lock:
            if self._last is None or time.monotonic() - self._at > _FRESH:
                self._last = self._probe()
                self._at = time.monotonic()
            return self._last


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    look: _Look
    metrics: Callable[[Callable[[], Health], str], tuple[bytes, str]]

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Answers)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news; the standard library would print a traceback."""


class _Answers(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        try:
            status, body, content_type = self._answer(path)
        except Exception as error:  # noqa: BLE001 - a probe must hear of it, and the server go on
            complain("health", "%s can't be answered (%s: %s).", path, type(error).__name__, error)
            status, body, content_type = 503, f"internal_error: {type(error).__name__}: {error}\n".encode(), _TEXT
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server looks for this name

    def _answer(self, path: str) -> tuple[int, bytes, str]:
        if path == "/healthz":
            return 200, b"ok\n", _TEXT
        if path == "/readyz":
            problems = self.server.look().problems
            lines = "".join(f"{name}: {what}\n" for name, what in problems.items())
            return (503 if problems else 200), (lines or "ok\n").encode(), _TEXT
        if path == "/metrics":
            return 200, *self.server.metrics(self.server.look, self.headers.get("Accept", ""))
        return 404, b"there are /healthz, /readyz and /metrics\n", _TEXT

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the standard library calls it
        """Probes come every few seconds: they are not logged."""
