"""The ingest endpoint of the tests: it records every request, and misbehaves on demand."""

from __future__ import annotations

import socket
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.support.ingest_server import Event, IngestServer, Request, read
from tests.support.misbehaviour import Behaviour, ok
from tests.support.wire import faults

_RELEASE_SECONDS = 120.0
"""A hanging exchange ends after this long even if the test never releases it, so that no test run outlives it."""


class Endpoint:
    """The ingest endpoint on a free loopback port.

    `script(…)` queues behaviours, one per request; `standing(…)` sets those of the others, until called again.
    """

    def __init__(
        self, key: str | None = "sk_test", *, takes_gzip: bool = False, tls: ssl.SSLContext | None = None
    ) -> None:
        self.key = key
        self.takes_gzip = takes_gzip
        self._tls = tls
        self.requests: list[Request] = []
        self.events: list[Event] = []
        """Unique events in order of arrival."""
        self.duplicates: list[Event] = []
        self._seen: set[str] = set()
        self._script: deque[Behaviour] = deque()
        self._standing: tuple[Behaviour, ...] = ()
        self._lock = threading.RLock()
        self._released = threading.Event()
        self._server: IngestServer | None = None
        self._closed: socket.socket | None = None
        self.port = 0
        self.up()

    @property
    def url(self) -> str:
        """The value for SLUICE_API_URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/api"

    # Behaviour

    def script(self, *behaviours: Behaviour) -> None:
        """Queue behaviours; each serves one request."""
        with self._lock:
            self._script.extend(behaviours)

    def unscript(self) -> None:
        """Remove the behaviours that no request has used."""
        with self._lock:
            self._script.clear()

    def standing(self, *behaviours: Behaviour) -> None:
        """Set the behaviours for an empty script: the first that handles a request counts. None: accept all."""
        with self._lock:
            self._standing = behaviours

    def release(self) -> None:
        """End every exchange that is hanging."""
        with self._lock:
            self._released.set()
            self._released = threading.Event()

    def down(self) -> None:
        """Close the listening socket and every connection. The port stays reserved, and refuses connections."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        self._closed = _bound(self.port)
        self.release()
        server.end_connections()

    def up(self) -> None:
        """Listen again on the same port."""
        if self._server is not None:
            return
        self._server = IngestServer(self, self.port)
        self.port = self._server.server_address[1]
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        if self._closed is not None:
            self._closed.close()
            self._closed = None
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True, name="endpoint").start()

    def close(self) -> None:
        """Close the endpoint for good."""
        self.down()
        if self._closed is not None:
            self._closed.close()
            self._closed = None

    def clear(self) -> None:
        """Remove all received requests and events, and the ids for deduplication."""
        with self._lock:
            self.requests.clear()
            self.events.clear()
            self.duplicates.clear()
            self._seen.clear()

    # Received requests

    @property
    def faults(self) -> list[str]:
        """Every breach of the contract in any request, refused requests included."""
        with self._lock:
            return [
                f"request {index}: {fault}" for index, request in enumerate(self.requests) for fault in request.faults
            ]

    def jobs(self) -> dict[str, list[Event]]:
        """Return the job events by the job's external id, sorted by timestamp."""
        return self._grouped("job", "externalId")

    def workers(self) -> dict[str, list[Event]]:
        """Return the worker events by the worker's external id, sorted by timestamp."""
        return self._grouped("worker", "externalId")

    def queues(self) -> dict[str, list[Event]]:
        """Return the queue snapshots by the queue's name, sorted by timestamp."""
        return self._grouped("queue", "name")

    def walk(self, external_id: str) -> list[tuple[str, int | None]]:
        """Return the states and attempts of one job, sorted by timestamp."""
        return [(event["job"]["state"], event["job"].get("attempt")) for event in self.jobs().get(external_id, [])]

    def states(self, external_id: str) -> list[str]:
        """Return the states of one job, sorted by timestamp."""
        return [state for state, _ in self.walk(external_id)]

    def walks(self) -> dict[str, tuple[str, ...]]:
        """Return the states of every job, sorted by timestamp, by the job's external id."""
        return {job: tuple(event["job"]["state"] for event in events) for job, events in self.jobs().items()}

    def _grouped(self, payload: str, key: str) -> dict[str, list[Event]]:
        grouped: defaultdict[str, list[Event]] = defaultdict(list)
        with self._lock:
            events = [event for event in self.events if payload in event]
        for event in sorted(events, key=lambda event: time_key(event["timestamp"])):
            grouped[event[payload][key]].append(event)
        return dict(grouped)

    # Interface of the handler

    def is_up_on(self, server: IngestServer) -> bool:
        return self._server is server

    def behaviours(self) -> tuple[Behaviour, ...]:
        with self._lock:
            scripted = (self._script.popleft(),) if self._script else ()
            return (*scripted, *self._standing, ok)

    def read(self, request: Request) -> tuple[int, bytes] | None:
        """Check a request; return status and body if it must be refused, whatever the script."""
        return read(request, self)

    def record(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)

    def wait_for_release(self) -> None:
        with self._lock:
            released = self._released
        released.wait(_RELEASE_SECONDS)

    def accept(
        self, request: Request, *, reject: Callable[[Event], bool] | None = None, keep: int | None = None
    ) -> dict[str, Any]:
        counts = {"accepted": 0, "rejected": 0, "skipped": 0, "truncated": 0}
        with self._lock:
            for index, event in enumerate(request.events):
                if keep is not None and index >= keep:
                    counts["truncated"] += 1
                elif faults(event) or (reject is not None and reject(event)):
                    counts["rejected"] += 1
                elif (event_id := event_id_of(event)) is not None and event_id in self._seen:
                    counts["skipped"] += 1
                    self.duplicates.append(event)
                else:
                    counts["accepted"] += 1
                    self.events.append(event)
                    if event_id is not None:
                        self._seen.add(event_id)
            request.answer = {**counts, "usage": {"events": len(self.events), "limit": 10_000}}
        return request.answer


def event_id_of(event: Event) -> str | None:
    """Return the deduplication id, from the two fields that the contract leaves open."""
    return (
        event.get("job", {}).get("extensions", {}).get("eventId")
        or event.get("worker", {}).get("metadata", {}).get("eventId")
        or None
    )


def time_key(timestamp: str) -> tuple[str, str]:
    """Return a key that sorts the contract's timestamps, whatever the length of their fractions."""
    seconds, _, rest = timestamp.removesuffix("Z").partition(".")
    return seconds, rest.ljust(12, "0")


def _bound(port: int) -> socket.socket:
    """Return a socket that is bound to the port and does not listen: connections to it are refused."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


E = TypeVar("E", bound=Endpoint)


@contextmanager
def running(endpoint: E) -> Iterator[E]:
    """Close `endpoint` at the end of the block. What hangs in it is released before."""
    try:
        yield endpoint
    finally:
        endpoint.release()
        endpoint.close()
