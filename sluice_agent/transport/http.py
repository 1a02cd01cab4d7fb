"""The one file that speaks HTTP: a request becomes an `Response` or `UnreachableError`. What it means others decide."""

from __future__ import annotations

import gzip
import logging
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

THREAD_NAME = "sluice-shipper"

_TIMEOUT = httpx.Timeout(10.0, connect=5.0)  # seconds without a byte
_DEADLINE = 30.0  # seconds for a whole answer: one that drips in byte by byte never lets the timeout above run out
_OPENED = (".connect_tcp.complete", ".start_tls.complete")  # what httpx tells of a connection that it makes
_LEAVES = ".send_request_headers.started"  # ... when a request leaves
_SENT = ".receive_response_headers.started"  # ... and when it has left
_LONGEST_ANSWER = 1_000_000  # bytes
_WORTH_COMPRESSING = 1_000  # bytes


_NEVER_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol, httpx.InvalidURL)


def noop() -> None:
    """What is called where nobody wants to know."""


class UnreachableError(Exception):
    """There was no whole answer. The request may have arrived only where `may_have_arrived` says so."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.may_have_arrived = isinstance(error, httpx.HTTPError) and not isinstance(error, _NEVER_LEFT)


class CertificatesError(OSError):
    """The certificates that the environment names can't be loaded."""


@dataclass(frozen=True, slots=True)
class Response:
    """What the endpoint said. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """A kept connection to one address. Proxies and certificates come from the usual environment variables."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = dict(headers)
        self._client: httpx.Client | None = None
        self._tls: ssl.SSLContext | None = None  # to load certificates takes 20 ms, in which a hub stands still
        self._takes_gzip = False
        self._deadline = 0.0
        self._on_leaving: Callable[[], None] = noop

    def post(self, body: bytes, headers: Mapping[str, str], on_leaving: Callable[[], None] = noop) -> Response:
        """Send `body`, compressed once the endpoint has said that it takes gzip. Raises `UnreachableError`.

        `on_leaving` is called when there is a connection: until then nothing can have arrived.
        """
        self._on_leaving = on_leaving
        sent = {"Content-Type": "application/json", **headers}
        if self._takes_gzip and len(body) >= _WORTH_COMPRESSING:
            body, sent["Content-Encoding"] = gzip.compress(body, compresslevel=1, mtime=0), "gzip"
        response = self._exchange("POST", body, sent)
        self._takes_gzip = "gzip" in response.headers.get("accept-encoding", "").lower()
        return response

    def get(self) -> Response:
        """Read the address. Raises `UnreachableError`."""
        return self._exchange("GET", None, {})

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _exchange(self, method: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        try:
            return self._read_response(method, body, headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, ImportError) as error:
            # The last two: a proxy in the environment that httpx does not understand.
            self.close()  # the next attempt resolves and connects anew
            raise UnreachableError(error) from error

    def _read_response(self, method: str, body: bytes | None, headers: Mapping[str, str]) -> Response:
        if self._client is None:
            self._tls = self._tls or _certificates()
            self._client = httpx.Client(
                headers=self._headers, timeout=_TIMEOUT, follow_redirects=False, verify=self._tls
            )
        self._deadline = time.monotonic() + _DEADLINE
        received = bytearray()
        watched = {"trace": self._watch}
        with self._client.stream(method, self._url, content=body, headers=headers, extensions=watched) as response:
            for chunk in response.iter_bytes():
                received += chunk
                if len(received) > _LONGEST_ANSWER:
                    raise httpx.ReadError("the answer is too long")
            return Response(response.status_code, dict(response.headers), bytes(received))

    def _watch(self, event: str, about: Mapping[str, Any]) -> None:
        """What httpx tells while a request is under way: the answer's time begins when the request has left."""
        if event.endswith(_SENT):
            self._deadline = time.monotonic() + _DEADLINE
        elif event.endswith(_LEAVES):
            self._on_leaving()
        elif event.endswith(_OPENED):
            self._keep_in_time(about["return_value"])

    def _keep_in_time(self, connection: Any) -> None:
        """Let no read of `connection` end after the deadline: httpx's own timeout begins anew with each byte."""
        read = connection.read

        def read_in_time(most_bytes: int, timeout: float | None = None) -> bytes:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise httpx.ReadTimeout("the answer is too slow")
            content: bytes = read(most_bytes, left if timeout is None else min(timeout, left))
            return content

        connection.read = read_in_time


def _certificates() -> ssl.SSLContext:
    try:
        return httpx.create_ssl_context()
    except OSError as error:
        file = os.environ.get("SSL_CERT_FILE")
        if not file:
            raise
        raise CertificatesError(f"SSL_CERT_FILE is {file!r}: {error.strerror or error}") from error


class _NotOurRequests(logging.Filter):
    """Keeps the shipper's own requests out of the host's log; the host's requests stay in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.threadName or "").startswith(THREAD_NAME)


_not_our_requests = _NotOurRequests()
_LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "proxy", "socks")))


def keep_out_of_the_hosts_log() -> None:
    """httpx logs each request at level INFO, and more below: not in somebody else's worker, once a second."""
    for name in _LOGGERS:  # each by its own name: a logger's filter does not see what its children are told
        logging.getLogger(name).addFilter(_not_our_requests)
