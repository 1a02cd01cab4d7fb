"""The one file of the room that uses HTTP: a POST to one checked address, with a deadline for the whole exchange."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import httpx

from sluice_agent.outbound.addresses import AddressError, Resolve, Target, resolve

_ERROR_BYTES = 1_000  # of a response that is no success
_CONNECTED_EVENTS = (".connect_tcp.complete", ".start_tls.complete")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: for the connection, and for the whole exchange with the look-up of the name."""

    connect: float = 5.0
    exchange: float = 20.0


TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Answer:
    """A status with what decides what follows: `retry_after` is the header's text, `text` the beginning of the body of
    a response that is no success."""

    status: int
    retry_after: str | None
    text: str


class NoAnswerError(Exception):
    """No response was received; the request may have arrived. The message has the reason."""


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allows_private: bool,
    timeouts: Timeouts = TIMEOUTS,
    look_up: Resolve | None = None,
) -> Answer:
    """Send `body` and return the answer. Redirects are not followed, and no proxy of the environment is used.

    Raises `NoAnswerError`, also if the address may not be requested.
    """
    deadline = time.monotonic() + timeouts.exchange
    try:
        target = resolve(url, allows_private=allows_private, look_up=look_up)
    except (AddressError, OSError) as error:
        raise NoAnswerError(str(error) or type(error).__name__) from error
    last: Exception = httpx.ConnectError("no address")
    for address in target.addresses:
        try:
            return _exchange(_pinned(url, address), body, headers, target, timeouts, deadline)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent: the next address may do
            last = error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise NoAnswerError(f"{type(error).__name__}: {error}") from error
    raise NoAnswerError(f"{type(last).__name__}: {last}") from last


def _exchange(
    url: httpx.URL, body: bytes, headers: Mapping[str, str], target: Target, timeouts: Timeouts, deadline: float
) -> Answer:
    remaining = _remaining(deadline)
    timeout = httpx.Timeout(remaining, connect=min(timeouts.connect, remaining))
    extensions: dict[str, Any] = {"trace": _Deadline(deadline).on_trace}
    if target.host not in target.addresses:
        extensions["sni_hostname"] = target.host  # the certificate is checked for the name
    all_headers = {**headers, "Host": _host(target), "Connection": "close", "Accept-Encoding": "identity"}
    with (
        httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False, verify=_tls(target.scheme)) as client,
        client.stream("POST", url, content=body, headers=all_headers, extensions=extensions) as response,
    ):
        text = "" if response.is_success else _beginning(response)
        return Answer(response.status_code, response.headers.get("retry-after"), text)


def _beginning(response: httpx.Response) -> str:
    """Return the beginning of a body, or what has come of it: the status alone decides."""
    content = bytearray()
    try:
        for chunk in response.iter_raw(_ERROR_BYTES):
            content += chunk
            if len(content) >= _ERROR_BYTES:
                break
    except httpx.HTTPError:
        pass
    return bytes(content[:_ERROR_BYTES]).decode("utf-8", "replace")


class _Deadline:
    """Ends each read and write by a moment of the monotonic clock: httpx's own timeouts begin again with each byte."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def on_trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Handle a trace event of httpx."""
        if event.endswith(_CONNECTED_EVENTS):
            stream = info["return_value"]
            stream.read = self._limited(stream.read, httpx.ReadTimeout)
            stream.write = self._limited(stream.write, httpx.WriteTimeout)

    def _limited(self, operation: Any, error: type[httpx.TimeoutException]) -> Any:
        def limited(argument: Any, timeout: float | None = None) -> Any:
            remaining = self._deadline - time.monotonic()
            if remaining <= 0:
                raise error("the exchange takes too long")
            return operation(argument, remaining if timeout is None else min(timeout, remaining))

        return limited


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise httpx.ReadTimeout("the exchange takes too long")
    return remaining


def _pinned(url: str, address: str) -> httpx.URL:
    return httpx.URL(url).copy_with(host=address)


def _host(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return host if target.port == {"http": 80, "https": 443}[target.scheme] else f"{host}:{target.port}"


@lru_cache(maxsize=2)
def _tls(scheme: str) -> ssl.SSLContext:
    """Return a context with authorities only where certificates are checked: loading them takes 20 ms."""
    if scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.create_ssl_context()
