"""A connection to the server of the jobs API, which stays open. The one file of the room that uses HTTP.

A worker sends two short requests for each attempt. By `http.client` they take a quarter of the CPU that they take by
httpx, which is left with the rules for certificates.
"""

from __future__ import annotations

import base64
import ssl
from functools import lru_cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

_CONNECT = 5.0  # seconds
_SILENCE = 10.0


class UnreachableError(Exception):
    """No answer came. The message has the reason."""


class Response(NamedTuple):
    """The status and the body of an answer."""

    status: int
    content: bytes


class Connection:
    """One connection to the server at `url`. Used by one thread at a time.

    Proxies and certificates are those of the environment, as for the agent.
    """

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._connection: HTTPConnection | None = None
        self._prefix = ""  # of paths: a proxy is asked for whole URLs

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> Response:
        """Send a request that may be repeated, and return the answer. Raises `UnreachableError`."""
        try:
            if self._connection is not None:
                try:
                    return self._exchange(self._connection, path, body, headers)
                except ConnectionError:
                    self.close()  # as the server has done meanwhile
            self._connection = self._connect()
            return self._exchange(self._connection, path, body, headers)
        except (HTTPException, OSError, ValueError) as error:
            self.close()
            raise UnreachableError(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close it; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, connection: HTTPConnection, path: str, body: bytes, headers: dict[str, str]) -> Response:
        connection.request("POST", f"{self._prefix}{self._url.path}{path}", body, headers)
        response = connection.getresponse()
        return Response(response.status, response.read())

    def _connect(self) -> HTTPConnection:
        host, is_tls = self._url.hostname, self._url.scheme == "https"
        if not host or self._url.scheme not in ("http", "https"):
            raise ValueError(f"{self._url.geturl()} is no address of HTTP")
        port = self._url.port or (443 if is_tls else 80)
        proxy = _proxy_of(self._url)
        at, at_port = (host, port) if proxy is None else (str(proxy.hostname), proxy.port or 80)
        connection: HTTPConnection
        if is_tls:
            connection = HTTPSConnection(at, at_port, timeout=_CONNECT, context=_authorities())
        else:
            connection = HTTPConnection(at, at_port, timeout=_CONNECT)
        if proxy is not None and is_tls:
            connection.set_tunnel(host, port, headers=_proxy_headers(proxy))
        self._prefix = f"http://{self._url.netloc}" if proxy is not None and not is_tls else ""
        connection.connect()
        connection.sock.settimeout(_SILENCE)
        return connection


def _proxy_of(url: SplitResult) -> SplitResult | None:
    """Return the address of the proxy that the environment sets for a URL."""
    proxies, host = getproxies(), url.hostname or ""
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or proxy_bypass(host):
        return None
    proxy = urlsplit(address if "://" in address else f"http://{address}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise ValueError(f"the proxy for {host} is none of http://: name it in NO_PROXY, or set another one")
    return proxy


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    credentials = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(credentials).decode()}"}


@lru_cache(maxsize=1)
def _authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()
