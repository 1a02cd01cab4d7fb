"""Limits of the requests to ``/v1`` by the address of their client: how many of each kind within any minute.

They are set by an option of the server, and each server counts by itself. Requests of workers and calls of endpoints
go to other paths.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_agent.errors import ConfigError
from sluice_agent.jobs.routes.errors import error_response
from sluice_agent.server.access.client_address import Proxies

RequestLimits = Mapping[str, int]
"""Requests a minute, by kind. A kind that is not there has no limit."""

ALL = "all"
"""The kind of every request, in addition to its own."""

_PATHS = {
    "create": re.compile(r"/jobs|/jobs/[^/]+/clone"),
    "batch": re.compile(r"/jobs/batch|/jobs/batch-(enable|disable)"),
    "trigger": re.compile(r"/jobs/[^/]+/trigger"),
    "bulk": re.compile(r"/jobs/[^/]+/trigger/bulk"),
}
_KINDS = (*_PATHS, ALL)
_LIMIT = re.compile(r"\s*([a-z]+)\s*=\s*([1-9][0-9]{0,5})\s*", re.ASCII)

_WINDOW = 60.0  # seconds
_MOST_CLIENTS = 10_000


def request_limits_of(text: str | None) -> RequestLimits:
    """Return the limits in a text such as ``trigger=10,all=100``; none of None or an empty one.

    Raises `ConfigError` for another text.
    """
    limits: dict[str, int] = {}
    for part in (text or "").split(",") if text and text.strip() else ():
        match = _LIMIT.fullmatch(part)
        if match is None or match[1] not in _KINDS or match[1] in limits:
            message = (
                "--jobs-request-limits takes requests a minute, from 1 to 999999, of each of the kinds "
                f"{', '.join(_KINDS)} at most once, such as trigger=10,all=100; not {part.strip()!r}"
            )
            raise ConfigError(message)
        limits[match[1]] = int(match[2])
    return limits


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a request is refused: the kind whose limit is used up, and the seconds until it is not."""

    kind: str
    seconds: float


@dataclass(slots=True)
class _Client:
    last: float = 0.0
    times: dict[str, deque[float]] = field(default_factory=dict)


class RequestCounts:
    """The requests of each client within the last minute, by a `clock` in seconds. Used in one event loop only.

    A request that is refused does not count. Of more than `most_clients` those are forgotten whose last request is the
    longest ago.
    """

    def __init__(self, limits: RequestLimits, clock: Callable[[], float], most_clients: int = _MOST_CLIENTS) -> None:
        self._limits = limits
        self._clock = clock
        self._most_clients = most_clients
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def __len__(self) -> int:
        """Return how many clients are remembered."""
        return len(self._clients)

    def admit(self, name: str, kinds: Sequence[str]) -> Wait | None:
        """Count a request of a client, which is of these kinds, and return None; or return why it is refused."""
        kinds = [kind for kind in kinds if kind in self._limits]
        if not kinds:
            return None
        now = self._clock()
        self._forget(now)
        client = self._clients.get(name)
        if client is not None:
            waits = [Wait(kind, self._wait(client, kind, now)) for kind in kinds]
            longest = max(waits, key=lambda wait: wait.seconds)
            if longest.seconds > 0:
                return longest
        self._note(name, kinds, now)
        return None

    def _wait(self, client: _Client, kind: str, now: float) -> float:
        """Return the seconds until a request of a kind is admitted."""
        times = client.times.get(kind)
        while times and times[0] + _WINDOW <= now:
            times.popleft()
        return times[0] + _WINDOW - now if times and len(times) >= self._limits[kind] else 0.0

    def _note(self, name: str, kinds: Sequence[str], now: float) -> None:
        client = self._clients.setdefault(name, _Client())
        self._clients.move_to_end(name)
        client.last = now
        for kind in kinds:
            client.times.setdefault(kind, deque()).append(now)
        if len(self._clients) > self._most_clients:
            self._clients.popitem(last=False)

    def _forget(self, now: float) -> None:
        while self._clients:
            name, client = next(iter(self._clients.items()))
            if client.last + _WINDOW > now:
                return
            del self._clients[name]


class RequestLimit:
    """Answer 429, with the seconds until it is not, to a request beyond the limits of its client."""

    def __init__(self, app: ASGIApp, counts: RequestCounts, limits: RequestLimits, proxies: Proxies) -> None:
        self._app = app
        self._counts = counts
        self._limits = limits
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        wait = self._counts.admit(self._client_of(scope), kinds_of(scope))
        if wait is None:
            await self._app(scope, receive, send)
            return
        limit = f"{wait.kind}={self._limits[wait.kind]}"
        message = f"The limit of requests a minute from your address is used up: {limit}."
        response = error_response(scope, 429, message, headers={"Retry-After": f"{math.ceil(wait.seconds)}"})
        await response(scope, receive, send)

    def _client_of(self, scope: Scope) -> str:
        peer = scope.get("client")
        return self._proxies.client_of(peer[0] if peer else "", Headers(scope=scope).getlist("x-forwarded-for"))


def kinds_of(scope: Scope) -> tuple[str, ...]:
    """Return the kinds of a request."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    own = (kind for kind, paths in _PATHS.items() if scope["method"] == "POST" and paths.fullmatch(path))
    return (*own, ALL)
