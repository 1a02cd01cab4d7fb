"""The one file of the room that uses HTTP: a POST to one checked address, with a deadline for the whole exchange."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import httpx

from sluice_agent.outbound.addresses import AddressError, Resolve, Target, look_up_host, resolve
from sluice_agent.outbound.deadline import Watchdog
from sluice_agent.outbound.quiet import quiet

_TEXT_BYTES = 1_000  # of an error
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
    trace = _Trace(watchdog)
    try:
        with trace.look_up():
            target = resolve(url, allows_private=allows_private, look_up=_limited(look_up, watchdog))
        for address in target.addresses[:-1]:
            try:
                return _exchange(url, address, body, headers, target, timeouts, reading, watchdog, trace)
            except (httpx.ConnectError, httpx.ConnectTimeout):  # nothing was sent: the next address may do
                _check(watchdog)
        return _exchange(url, target.addresses[-1], body, headers, target, timeouts, reading, watchdog, trace)
    except NoAnswerError as error:
        error.timing = trace.timing()
        raise
    except AddressError as error:
        raise NoAnswerError(str(error), "address", trace.timing()) from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        try:
            _check(watchdog)
        except NoAnswerError as ended:
            ended.timing = trace.timing()
            raise
        text = str(error) if type(error) is OSError else f"{type(error).__name__}: {error}"
        raise NoAnswerError(text, "network", trace.timing()) from error


def _check(watchdog: Watchdog) -> None:
    """Raise `NoAnswerError` if the exchange has been ended: what happens on its socket then has no other meaning."""
    if watchdog.ended_by == "aborted":
        raise NoAnswerError("the exchange was aborted", "aborted")
    if watchdog.ended_by == "deadline":
        raise NoAnswerError("the exchange takes too long", "deadline")


def _exchange(
    url: str,
    address: str,
    body: bytes,
    headers: Mapping[str, str],
    target: Target,
    timeouts: Timeouts,
    reading: Reading,
    watchdog: Watchdog,
    trace: _Trace,
) -> Answer:
    _check(watchdog)
    remaining = watchdog.remaining
    parsed = httpx.URL(url)
    extensions: dict[str, Any] = {"trace": trace.on_event}
    if target.host not in target.addresses:
        extensions["sni_hostname"] = target.host  # the certificate is checked for the name
    own_headers = {"Host": parsed.netloc.decode("ascii"), "Connection": "close", "Accept-Encoding": "identity"}
    with (
        quiet(),
        httpx.Client(
            timeout=httpx.Timeout(remaining, connect=min(timeouts.connect, remaining)),
            follow_redirects=False,
            trust_env=False,
            verify=_tls(target.scheme),
        ) as client,
        client.stream(
            "POST",
            parsed.copy_with(host=address),
            content=body,
            headers={**headers, **own_headers},
            extensions=extensions,
        ) as response,
    ):
        content, is_cut = _read(response, reading, watchdog)
        return Answer(response.status_code, dict(response.headers), content, is_cut, trace.timing())


def _read(response: httpx.Response, reading: Reading, watchdog: Watchdog) -> tuple[bytes, bool]:
    """Return the body, at most as long as it is read, and whether it goes on."""
    limit = reading.success if response.is_success else reading.error
    content = bytearray()
    if limit == 0:
        return b"", True
    try:
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > limit:
                break
    except httpx.HTTPError:
        if reading.is_required:
            raise
    if reading.is_required:
        _check(watchdog)  # a socket that was shut looks like the end of a body without length
    return bytes(content[:limit]), len(content) > limit


class _Trace:
    """Follows the trace events of httpx: the moments of an exchange, and its socket."""

    def __init__(self, watchdog: Watchdog) -> None:
        self._watchdog = watchdog
        self._moments: dict[str, float] = {}
        self._look_up = 0.0

    @contextmanager
    def look_up(self) -> Iterator[None]:
        """Take the time of the look-up of a name."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._look_up = time.monotonic() - begin

    def on_event(self, event: str, info: Mapping[str, Any]) -> None:
        """Handle an event, such as `http11.receive_response_headers.complete`."""
        self._moments[event.partition(".")[2]] = time.monotonic()
        if event.endswith("connect_tcp.complete"):
            self._watchdog.watch(info["return_value"].get_extra_info("socket"))

    def timing(self) -> Timing:
        """Return the times of an exchange that has just ended."""
        now = time.monotonic()
        connected = self._moments.get("connect_tcp.complete", now)
        secured = self._moments.get("start_tls.complete", now)
        answered = self._moments.get("receive_response_headers.complete", now)
        return Timing(
            look_up=self._look_up,
            connect=connected - self._moments.get("connect_tcp.started", connected),
            tls=secured - self._moments.get("start_tls.started", secured),
            first_byte=answered - connected,
            transfer=now - answered,
        )


def _limited(look_up: Resolve, watchdog: Watchdog) -> Resolve:
    """Return a look-up that the deadline ends: the system's own may take half a minute, and nothing interrupts it."""

    def limited(host: str, port: int) -> Sequence[str]:
        found: list[Sequence[str] | OSError] = []

        def run() -> None:
            try:
                found.append(look_up(host, port))
            except OSError as error:
                found.append(error)

        thread = threading.Thread(target=run, daemon=True, name="sluice-look-up")
        thread.start()
        thread.join(watchdog.remaining)
        if not found:
            raise OSError(f"the address of {host} is not found in time")
        if isinstance(found[0], OSError):
            raise found[0]
        return found[0]

    return limited


@lru_cache(maxsize=2)
def _tls(scheme: str) -> ssl.SSLContext:
    """Return a context with authorities only where certificates are checked: loading them takes 20 ms."""
    if scheme == "http":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx.create_ssl_context()
