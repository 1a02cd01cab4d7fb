"""``/healthz``, ``/readyz`` and ``/metrics``, on the standard library's server in a separate thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sluice_agent.errors import ConfigError
from sluice_agent.health.snapshot import Health
from sluice_agent.log import warn_limited

_CACHE_SECONDS = 5.0  # how long one result serves all requests: it reads the pending events, 0.4 s for a full journal
_TEXT = "text/plain; charset=utf-8"
_REQUEST_TIMEOUT = 10.0  # seconds for a client to send its request


def serve_health(address: str, probe: Callable[[], Health]) -> HealthServer:
    """Answer probes at `address`, ``[host]:port``; without a host, on all addresses of this machine. `probe` returns
    the present health, and may raise.

    ``/healthz`` answers 200 while the process runs; ``/readyz`` answers 200, or 503 with a line for each problem;
    ``/metrics`` is for Prometheus. Raises `ConfigError` if it can't listen there, or if prometheus_client is missing.
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
    """The server, in a thread; it listens on ``port``."""

    def __init__(
        self,
        host: str,
        port: int,
        probe: Callable[[], Health],
        metrics: Callable[[Callable[[], Health], str], tuple[bytes, str]],
    ) -> None:
        self._server = _Server(host, port)
        self._server.health = _CachedHealth(probe)
        self._server.metrics = metrics
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="sluice-health", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the socket and stop the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _CachedHealth:
    """The latest health, at most `_CACHE_SECONDS` old; one thread at a time renews it."""

    def __init__(self, probe: Callable[[], Health]) -> None:
        self._probe = probe
        self._lock = threading.Lock()
        self._health: Health | None = None
        self._checked_at = 0.0

    def __call__(self) -> Health:
        with self._lock:
            if self._health is None or time.monotonic() - self._checked_at > _CACHE_SECONDS:
                self._health = self._probe()
                self._checked_at = time.monotonic()
            return self._health


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    health: _CachedHealth
    metrics: Callable[[Callable[[], Health], str], tuple[bytes, str]]

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a client that closes the connection; the standard library would print a traceback."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        try:
            status, body, content_type = self._respond(path)
        except Exception as error:  # noqa: BLE001 - a probe must get the error, and the server go on
            warn_limited(
                "health", "Could not answer %s (%s: %s): the probe gets 503.", path, type(error).__name__, error
            )
            status, body, content_type = 503, f"internal_error: {type(error).__name__}: {error}\n".encode(), _TEXT
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - http.server calls this name

    def _respond(self, path: str) -> tuple[int, bytes, str]:
        if path == "/healthz":
            return 200, b"ok\n", _TEXT
        if path == "/readyz":
            problems = self.server.health().problems
            lines = "".join(f"{name}: {what}\n" for name, what in problems.items())
            return (503 if problems else 200), (lines or "ok\n").encode(), _TEXT
        if path == "/metrics":
            return 200, *self.server.metrics(self.server.health, self.headers.get("Accept", ""))
        return 404, b"there are /healthz, /readyz and /metrics\n", _TEXT

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the standard library calls it
        """Log no requests: probes arrive every few seconds."""
