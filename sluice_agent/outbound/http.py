"""The one file of the room that uses HTTP: a POST to one checked address, with a deadline for the whole exchange.

Each exchange has a connection of its own. By h11 alone it takes two fifths of the CPU of a client of httpx,
whose pools and look-ups serve nothing here; httpx has the rules for URLs and certificates.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import h11
import httpx

from sluice_agent.outbound.addresses import AddressError, Resolve, Target, look_up_host, resolve
from sluice_agent.outbound.deadline import Watchdog

_TEXT_BYTES = 1_000  # of an error
_LONGEST_HEAD = 102_400  # bytes
_CHUNK = 65_536
_MOST_INFORMATIONAL = 100  # while an endpoint sends without a pause, gevent runs nothing else, no deadline either
_MOST_CHUNKS = 100_000  # half a second of CPU
_AT_ONCE = 1e-3  # seconds: a timeout of 0 has another meaning
Cause: TypeAlias = Literal["address", "network", "deadline", "aborted"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: for the connection, and for the whole exchange with the look-up of the name."""

    connect: float = 5.0
    exchange: float = 20.0


TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Reading:
    """The bytes of a body that are read: of a success, and of another response. `is_required`: a body that breaks off
    is no answer; else what has come of it counts."""

    success: int = 0
    error: int = _TEXT_BYTES
    is_required: bool = False

    def of(self, status: int) -> int:
        """Return the bytes that are read of a response with this status."""
        return self.success if 200 <= status < 300 else self.error


STATUS_ONLY = Reading()


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: for the look-up of the name, the connection over TCP, from then to the headers of the answer, and from
    those to its last byte. TLS is a part of the time to the headers. What did not end counts as far as it went."""

    look_up: float = 0.0
    connect: float = 0.0
    tls: float = 0.0
    first_byte: float = 0.0
    transfer: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its headers by lower-case name, and its body, or the beginning of it if `is_cut`."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool
    timing: Timing

    @property
    def retry_after(self) -> str | None:
        """The text of the header Retry-After."""
        return self.headers.get("retry-after")

    @property
    def text(self) -> str:
        """The beginning of the body."""
        return self.body[:_TEXT_BYTES].decode("utf-8", "replace")


class NoAnswerError(Exception):
    """No response was received; the request may have arrived. The message has the reason."""

    def __init__(self, message: str, cause: Cause, timing: Timing | None = None) -> None:
        super().__init__(message)
        self.cause: Cause = cause
        self.timing = timing or Timing()


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allows_private: bool,
    timeouts: Timeouts = TIMEOUTS,
    look_up: Resolve | None = None,
    reading: Reading = STATUS_ONLY,
    watchdog: Watchdog | None = None,
) -> Answer:
    """Send `body` and return the answer. Redirects are not followed, and no proxy of the environment is used.

    `watchdog` is one whose context has been entered, where its deadline spans more than this exchange. Raises
    `NoAnswerError`, also if the address may not be requested.
    """
    if watchdog is None:
        with Watchdog(timeouts.exchange) as own:
            return _post(url, body, headers, allows_private, timeouts, look_up or look_up_host, reading, own)
    return _post(url, body, headers, allows_private, timeouts, look_up or look_up_host, reading, watchdog)


def _post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    allows_private: bool,
    timeouts: Timeouts,
    look_up: Resolve,
    reading: Reading,
    watchdog: Watchdog,
) -> Answer:
    moments = _Moments()
    try:
        target = resolve(url, allows_private=allows_private, look_up=_limited(look_up, watchdog))
        moments.note("found")
        with _connect(target, timeouts, watchdog, moments) as connection:
            return _exchange(connection, url, body, headers, reading, watchdog, moments)
    except NoAnswerError as error:
        error.timing = moments.timing()
        raise
    except (AddressError, httpx.InvalidURL) as error:
        raise NoAnswerError(str(error), "address", moments.timing()) from error
    except (h11.ProtocolError, OSError, ValueError) as error:
        try:
            _check(watchdog)
        except NoAnswerError as ended:
            ended.timing = moments.timing()
            raise
        raise NoAnswerError(_reason_of(error), "network", moments.timing()) from error


def _reason_of(error: Exception) -> str:
    """Return a sentence without what the endpoint has sent: it may repeat secrets."""
    if isinstance(error, h11.ProtocolError):
        return f"{type(error).__name__}: {str(error).partition(': b')[0]}"  # "illegal header line: bytearray(…"
    return str(error) if type(error) is OSError else f"{type(error).__name__}: {error}"


def _check(watchdog: Watchdog) -> None:
    """Raise `NoAnswerError` if the exchange has been ended: what happens on its socket then has no other meaning."""
    if watchdog.ended_by == "aborted":
        raise NoAnswerError("the exchange was aborted", "aborted")
    if watchdog.ended_by == "deadline":
        raise NoAnswerError("the exchange takes too long", "deadline")


def _connect(target: Target, timeouts: Timeouts, watchdog: Watchdog, moments: _Moments) -> socket.socket:
    """Return a connection to the first address of a target that takes one."""
    for address in target.addresses[:-1]:
        try:
            return _connect_to(address, target, timeouts, watchdog, moments)
        except OSError:  # nothing was sent: the next address may do
            continue
    return _connect_to(target.addresses[-1], target, timeouts, watchdog, moments)


def _connect_to(
    address: str, target: Target, timeouts: Timeouts, watchdog: Watchdog, moments: _Moments
) -> socket.socket:
    _check(watchdog)
    moments.begin()
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.settimeout(min(timeouts.connect, watchdog.remaining) or _AT_ONCE)
        connection.connect((address, target.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        moments.note("connected")
        watchdog.watch(connection)
        if target.scheme == "https":
            connection = authorities().wrap_socket(connection, server_hostname=target.host.rstrip("."))
            moments.note("secured")
        connection.settimeout(watchdog.remaining or _AT_ONCE)
    except BaseException:
        connection.close()
        raise
    return connection


def _exchange(
    connection: socket.socket,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    reading: Reading,
    watchdog: Watchdog,
    moments: _Moments,
) -> Answer:
    host, path = _parts_of(url)
    own_headers = {"Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close", "Host": host}
    given = {**own_headers, **headers, "Content-Length": str(len(body))}
    protocol = h11.Connection(h11.CLIENT, _LONGEST_HEAD)
    head = protocol.send(h11.Request(method="POST", target=path, headers=[*given.items()])) or b""
    sent = [protocol.send(event) or b"" for event in (h11.Data(data=body), h11.EndOfMessage())]
    with suppress(BrokenPipeError, ConnectionResetError, ssl.SSLEOFError):  # it may have answered before the end
        connection.sendall(b"".join([head, *sent]))
    response = _response(connection, protocol)
    moments.note("answered")
    content, is_cut = _read(connection, protocol, reading.of(response.status_code), reading, watchdog)
    return Answer(response.status_code, _headers_of(response), content, is_cut, moments.timing())


def _response(connection: socket.socket, protocol: h11.Connection) -> h11.Response:
    """Return the head of the answer, which informational ones may precede."""
    for _ in range(_MOST_INFORMATIONAL):
        event = _next(connection, protocol)
        if isinstance(event, h11.Response):
            return event
    raise h11.RemoteProtocolError("too many informational responses")


def _next(connection: socket.socket, protocol: h11.Connection) -> Any:
    """Return the next event of an answer."""
    event = protocol.next_event()
    while event is h11.NEED_DATA:
        data = connection.recv(_CHUNK)
        if not data and protocol.their_state is h11.SEND_RESPONSE:
            raise OSError("the endpoint has closed the connection without an answer")
        protocol.receive_data(data)
        event = protocol.next_event()
    return event


def _read(
    connection: socket.socket, protocol: h11.Connection, limit: int, reading: Reading, watchdog: Watchdog
) -> tuple[bytes, bool]:
    """Return the body, at most as long as it is read, and whether it goes on."""
    content = bytearray()
    if limit == 0:
        return b"", True
    chunks = 0
    try:
        while len(content) <= limit and isinstance(event := _next(connection, protocol), h11.Data):
            content += event.data
            chunks += 1
            if chunks > _MOST_CHUNKS:
                raise h11.RemoteProtocolError("too many chunks")  # noqa: TRY301 - as a body that breaks off
    except (h11.RemoteProtocolError, OSError):
        if reading.is_required:
            raise
    if reading.is_required:
        _check(watchdog)  # a socket that was shut looks like the end of a body without length
    return bytes(content[:limit]), len(content) > limit


def _headers_of(response: h11.Response) -> dict[str, str]:
    """Return the headers by their lower-case names; those of one name are joined."""
    headers: dict[str, str] = {}
    for name, value in response.headers:
        key, text = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


@lru_cache(maxsize=1_024)
def _parts_of(url: str) -> tuple[str, str]:
    """Return the header Host of a URL, and its path with its query, as they are sent."""
    parsed = httpx.URL(url)
    return parsed.netloc.decode("ascii"), parsed.raw_path.decode("ascii")


class _Moments:
    """The moments of an exchange, by name: the last one of each counts."""

    def __init__(self) -> None:
        self._moments = {"look up": time.monotonic()}

    def begin(self) -> None:
        """Note that a connection begins: what there was of another one counts no more."""
        self._moments.pop("connected", None)
        self._moments.pop("secured", None)
        self.note("begun")

    def note(self, name: str) -> None:
        """Note that something has just happened."""
        self._moments[name] = time.monotonic()

    def timing(self) -> Timing:
        """Return the times of an exchange that has just ended."""
        now = time.monotonic()
        found = self._moments.get("found", now)
        begun = self._moments.get("begun", now)
        connected = self._moments.get("connected", now)
        answered = self._moments.get("answered", now)
        return Timing(
            look_up=found - self._moments["look up"],
            connect=connected - begun,
            tls=self._moments.get("secured", connected) - connected,
            first_byte=answered - connected,
            transfer=now - answered,
        )


def _limited(look_up: Resolve, watchdog: Watchdog) -> Resolve:
    """Return a look-up that the deadline ends: the system's own may take half a minute, and nothing interrupts it."""

    def limited(host: str, port: int) -> Sequence[str]:
        found: list[Sequence[str] | OSError | ValueError] = []

        def run() -> None:
            try:
                found.append(look_up(host, port))
            except (OSError, ValueError) as error:
                found.append(error)

        thread = threading.Thread(target=run, daemon=True, name="sluice-look-up")
        thread.start()
        thread.join(watchdog.remaining)
        if not found:
            raise OSError(f"the address of {host} is not found in time")
        if isinstance(found[0], (OSError, ValueError)):
            raise found[0]
        return found[0]

    return limited


@lru_cache(maxsize=1)
def authorities() -> ssl.SSLContext:
    """Return the context of connections over TLS: certificates are checked by the authorities of the environment."""
    context = httpx.create_ssl_context()  # it takes 20 ms
    context.set_alpn_protocols(["http/1.1"])
    return context
