"""Ackly as its document describes it: one event a request, no detection of duplicates. Scripts make it misbehave.

Written from the contract alone; it never imports the agent.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STATUSES = ("success", "failure", "partial")
FIELDS: dict[str, Any] = {
    "status": str,
    "message": str,
    "eventType": str,
    "externalId": str,
    "durationMs": (int, float),
    "metadata": object,
}

Behaviour = Callable[["Handler", dict[str, Any]], None]


@dataclass(slots=True)
class Arrival:
    """A received request: its event, and the client's port, which distinguishes connections."""

    event: dict[str, Any]
    port: int
    at: float = field(default_factory=time.monotonic)


class Ackly:
    """Ackly on a free loopback port. `events` holds all that it ingested, duplicates included."""

    def __init__(self, key: str = "k" * 48) -> None:
        self.key = key
        self.events: list[dict[str, Any]] = []
        self.requests: list[Arrival] = []
        self.faults: list[str] = []
        self._script: deque[Behaviour] = deque()
        self._standing: Behaviour = created
        self.lock = threading.Lock()
        self._server = Server(self)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True, name="ackly").start()

    @property
    def url(self) -> str:
        """The value for ACKLY_URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/api/ingest"

    @property
    def env(self) -> dict[str, str]:
        """The environment variables of a worker that reports to this Ackly."""
        return {"ACKLY_INGEST_KEY": self.key, "ACKLY_URL": self.url}

    def script(self, *behaviours: Behaviour) -> None:
        """Queue behaviours; each serves one request."""
        with self.lock:
            self._script.extend(behaviours)

    def standing(self, behaviour: Behaviour) -> None:
        """Set the behaviour that serves requests when the script is empty."""
        with self.lock:
            self._standing = behaviour

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()

    def of(self, external_id: str) -> list[dict[str, Any]]:
        """Return the events of one job."""
        with self.lock:
            return [event for event in self.events if event.get("externalId") == external_id]

    def behaviour(self) -> Behaviour:
        with self.lock:
            return self._script.popleft() if self._script else self._standing

    def ingest(self, event: dict[str, Any]) -> str:
        with self.lock:
            self.events.append(event)
            return f"{len(self.events):024x}"


def created(handler: Handler, event: dict[str, Any]) -> None:
    """Answer 201 with the new event's id."""
    handler.answer(201, {"id": handler.server.ackly.ingest(event)})


def refuses(status: int, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answer with an error; ingest nothing."""
    return lambda handler, _: handler.answer(status, {"error": "on purpose"}, headers)


def lost_answer(handler: Handler, event: dict[str, Any]) -> None:
    """Ingest the event, and close the connection without an answer."""
    handler.server.ackly.ingest(event)
    handler.hang_up()


def reset_before(handler: Handler, event: dict[str, Any]) -> None:
    """Close the connection without an answer and ingest nothing: to the client the same as `lost_answer`."""
    handler.hang_up()


def contract_faults(event: Any) -> list[str]:
    """Return the ways in which an event breaks Ackly's document."""
    if not isinstance(event, dict):
        return [f"the body is {event!r}, no object"]
    faults = [f"{name} is no field" for name in event if name not in FIELDS]
    if event.get("status") not in STATUSES:
        faults.append(f"status is {event.get('status')!r}")
    return faults + [
        f"{name} is {value!r}"
        for name, value in event.items()
        if name in FIELDS and (not isinstance(value, FIELDS[name]) or isinstance(value, bool))
    ]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, ackly: Ackly) -> None:
        self.ackly = ackly
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        ackly = self.server.ackly
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {ackly.key}":
            self.answer(401, {"error": "no such key"})
            return
        try:
            event = json.loads(body)
        except ValueError:
            event = None
        faults = contract_faults(event)
        if self.headers.get("Content-Type") != "application/json":
            faults.append(f"Content-Type is {self.headers.get('Content-Type')!r}")
        with ackly.lock:
            ackly.faults += faults
        if faults:
            self.answer(400, {"error": faults[0]})
            return
        with ackly.lock:
            ackly.requests.append(Arrival(event, self.client_address[1]))
        ackly.behaviour()(self, event)

    def answer(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer; a text is sent as it is."""
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        all_headers = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
        lines = [f"HTTP/1.1 {status} Answer", *(f"{name}: {value}" for name, value in all_headers.items()), "", ""]
        self.wfile.write("\r\n".join(lines).encode("latin-1") + content)

    def hang_up(self) -> None:
        """Close the connection."""
        self.close_connection = True
        with suppress(OSError):  # the client disconnected first
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args: Any) -> None:
        """Log nothing: the tests read `requests`."""
