"""The only file that uses HTTP: a request becomes a `Response` or an `UnreachableError`. Callers interpret it."""

from __future__ import annotations

import gzip
import logging
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from sluice_agent.transport.delivery.responses import Response

THREAD_NAME = "sluice-shipper"

# Trace events of httpx: a connection is made, a request is about to be sent, a request has been sent.
_CONNECTED_EVENTS = (".connect_tcp.complete", ".start_tls.complete")
_SENDING_EVENT = ".send_request_headers.started"
_SENT_EVENT = ".receive_response_headers.started"
_MIN_COMPRESSED_BYTES = 1_000  # bytes: a smaller body is not compressed

# An `httpx.Client` would send the same. Its transport is used without it: a request then takes two thirds of the time.
_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
    "User-Agent": f"python-httpx/{httpx.__version__}",
}

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol, httpx.InvalidURL)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """When a request is given up, in seconds, and the longest response that is read, in bytes."""

    connect: float = 5.0
    silence: float = 10.0
    """Without a byte."""
    response: float = 30.0
    """For a whole answer: one that drips in byte by byte never lets the timeout above run out."""
    response_bytes: int = 1_000_000


TIMEOUTS = Timeouts()


class UnreachableError(Exception):
    """No complete response was received. The request can have arrived only if `may_have_arrived`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.may_have_arrived = isinstance(error, httpx.HTTPError) and not isinstance(error, _NOT_SENT)
        self.is_refused = isinstance(error, httpx.ConnectError) and _is_refusal(error)
        """Whether nothing listens at the address."""


def _is_refusal(error: BaseException | None) -> bool:
    """Return whether the system has refused a connection: httpx keeps that error behind its own."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


class CertificatesError(OSError):
    """The certificates that the environment names can't be loaded."""


class HttpClient:
    """A kept connection to one address. Proxies and certificates come from the usual environment variables.

    `key` is sent as a bearer token. `on_sending` is called when a connection is made, just before each request is sent:
    until then nothing can have arrived.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        on_sending: Callable[[], None] | None = None,
        timeouts: Timeouts = TIMEOUTS,
    ) -> None:
        self._url = url
        self._headers = {**_HEADERS, "Authorization": f"Bearer {key}"} if key else _HEADERS
        self._on_sending = on_sending
        self._timeouts = timeouts
        silence = timeouts.silence
        self._extensions = {
            "timeout": {"connect": timeouts.connect, "read": silence, "write": silence, "pool": silence},
            "trace": self._on_trace,
        }
        self._transport: httpx.HTTPTransport | None = None
        self._parsed_url: httpx.URL | None = None
        self._tls: ssl.SSLContext | None = None
        self._takes_gzip = False
        self._deadline = 0.0

    def post(self, body: bytes, headers: Mapping[str, str]) -> Response:
        """Send `body`, compressed once the endpoint has announced that it takes gzip. Raises `UnreachableError`."""
        all_headers = {"Content-Type": "application/json", **headers}
        if self._takes_gzip and len(body) >= _MIN_COMPRESSED_BYTES:
            body, all_headers["Content-Encoding"] = gzip.compress(body, compresslevel=1, mtime=0), "gzip"
        response = self._exchange("POST", body, all_headers)
        self._takes_gzip = "gzip" in response.headers.get("accept-encoding", "").lower()
        return response

    def get(self) -> Response:
        """Send a GET request. Raises `UnreachableError`."""
        return self._exchange("GET", None, {})

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def _exchange(self, method: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        try:
            return self._read_response(method, body, headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:
            # The last two: a proxy in the environment that httpx can't use.
            self.close()  # the next attempt resolves the name and connects again
            raise UnreachableError(error) from error

    def _read_response(self, method: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        if self._transport is None:
            self._tls = self._tls or _tls_context(self._url)
            self._transport = httpx.HTTPTransport(verify=self._tls, proxy=_proxy_for(self._url))
        url = self._parsed_url = self._parsed_url or httpx.URL(self._url)
        self._deadline = time.monotonic() + self._timeouts.response
        received = bytearray()
        all_headers = {**self._headers, **headers}
        request = httpx.Request(method, url, headers=all_headers, content=body, extensions=self._extensions)
        response = self._transport.handle_request(request)
        try:
            for chunk in response.iter_bytes():
                received += chunk
                if len(received) > self._timeouts.response_bytes:
                    raise httpx.ReadError("the answer is too long")
        finally:
            response.close()
        # Without `items` each header would be looked up in a list.
        return Response(response.status_code, dict(response.headers.items()), bytes(received))

    def _on_trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Handle a trace event of httpx. The response's timeout starts when the request has been sent."""
        if event.endswith(_SENT_EVENT):
            self._deadline = time.monotonic() + self._timeouts.response
        elif event.endswith(_SENDING_EVENT):
            if self._on_sending is not None:
                self._on_sending()
        elif event.endswith(_CONNECTED_EVENTS):
            self._enforce_deadline(info["return_value"])

    def _enforce_deadline(self, connection: Any) -> None:
        """Make each read of `connection` end by the deadline: httpx's own timeout restarts with each byte."""
        read = connection.read

        def read_before_deadline(max_bytes: int, timeout: float | None = None) -> bytes:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                raise httpx.ReadTimeout("the answer is too slow")
            content: bytes = read(max_bytes, remaining if timeout is None else min(timeout, remaining))
            return content

        connection.read = read_before_deadline


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for requests to `url`."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _tls_context(url: str) -> ssl.SSLContext:
    """Return a context for requests to `url`: with authorities only where certificates are checked.

    Loading them takes 20 ms, and blocks gevent's hub.
    """
    if httpx.URL(url).scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # with no authorities
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        file = os.environ.get("SSL_CERT_FILE")
        if not file:
            raise
        raise CertificatesError(f"SSL_CERT_FILE is {file!r}: {error.strerror or error}") from error


class _HideOwnRequests(logging.Filter):
    """Drops the log records of the shipper's requests from the host's log; those of the host's requests stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.threadName or "").startswith(THREAD_NAME)


_hide_own_requests = _HideOwnRequests()
_LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "proxy", "socks")))


def hide_request_logs() -> None:
    """Hide the shipper's requests: httpx logs each one at INFO, and more below, once a second in the host's log."""
    for name in _LOGGERS:  # by every child's name: a logger's filter does not see the records of its children
        logging.getLogger(name).addFilter(_hide_own_requests)
