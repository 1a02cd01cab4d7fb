"""Slow clients, and clients that send no HTTP: none holds up the server, and every error has the API's one format."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sluice_agent.server.protocol import Deadlines, Protocol
from tests.support.forked_server import ForkedServer
from tests.support.waiting import wait_until, within
from tests.unit.server.conftest import Start
from tests.unit.server.events import ingest, job_event
from tests.unit.server.test_runner import running_server

INGEST = b"POST /api/ingest HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk_test\r\nContent-Length: 1000\r\n"
LONG = 60.0  # seconds: a deadline that no test waits for


class Client:
    """A connection on which a test sends any bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def drip(self) -> None:
        """Send one byte after the other until the server closes the connection."""
        self._thread = threading.Thread(target=self._drip)
        self._thread.start()

    def answer(self) -> bytes:
        """Return everything that is received until the server closes the connection."""
        received = b""
        with suppress(ConnectionResetError):  # the server closes while the test sends
            while chunk := self.socket.recv(65_536):
                received += chunk
        return received

    def close(self) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        self.socket.close()

    def _drip(self) -> None:
        with suppress(OSError):
            while not self._stopped.wait(0.05):
                self.socket.sendall(b"x")


def port_of(url: object) -> int:
    port = httpx.URL(str(url)).port
    assert port is not None
    return port


def impatient_protocol(**deadlines: float) -> type[Protocol]:
    """Return the protocol with one short deadline."""

    class Impatient(Protocol):
        pass

    Impatient.deadlines = Deadlines(**{"head": LONG, "body": LONG, "response": LONG, **deadlines})
    return Impatient


def error_in(answer: bytes, status: int) -> dict[str, Any]:
    """Return the error in an answer of this status, which must have the documented form."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"content-type: application/json" in head.lower()
    assert b"connection: close" in head.lower()
    content = json.loads(body)
    error: dict[str, Any] = content["error"]
    assert content == {"error": error}
    assert set(error) == {"code", "message", "docs_url"}
    return error


@pytest.mark.parametrize(
    ("part", "sent", "status"),
    [
        ("head", b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", 408),
        ("body", INGEST + b"\r\n", 408),
        ("body", INGEST.replace(b"sk_", b"pk_") + b"\r\n", 401),
    ],
    ids=["headers", "body", "a body after the answer"],
)
def test_a_slow_sender_is_disconnected(start: Start, part: str, sent: bytes, status: int) -> None:
    """A few slow clients, on purpose or by a bad line, would otherwise hold connections for ever."""
    with closing(Client(port_of(start(protocol=impatient_protocol(**{part: 0.4})).base_url))) as client:
        client.socket.sendall(sent)
        client.drip()
        answer = client.answer()
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    if status == 408:
        assert error_in(answer, 408)["code"] == "REQUEST_TIMEOUT"


def test_an_idle_connection_is_closed(start: Start) -> None:
    """Unused connections would otherwise fill the server's table of files."""
    with closing(Client(port_of(start(protocol=impatient_protocol(head=0.3)).base_url))) as client:
        assert client.answer() == b""


def test_the_deadline_is_each_requests_own(start: Start) -> None:
    """A client that keeps its connection, as the agent does, would otherwise be cut off in the middle of its work."""
    client = start(protocol=impatient_protocol(head=0.6, body=0.6))
    content = json.dumps({"events": [job_event("active", 0)]})
    with closing(HTTPConnection("127.0.0.1", port_of(client.base_url))) as connection:
        connection.connect()
        connection.auto_open = 0  # a new connection would hide that the server has closed this one
        for pause in [0.0, 0.2] * 6:  # each is less than a deadline; together they are more
            connection.request("POST", "/api/ingest", content, {"Authorization": "Bearer sk_test"})
            response = connection.getresponse()
            assert (response.status, bool(response.read())) == (200, True)
            time.sleep(pause)


CHUNKED = INGEST.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked") + b"\r\n"


@pytest.mark.parametrize(
    ("body", "is_taken"),
    [
        (b"1\r\n \r\n" * 20_000, False),
        (b"1\r\n \r\n" * 900 + b"d\r\n" + b'{"events":[]}' + b"\r\n0\r\n\r\n", True),
        (b"d\r\n" + b'{"events":[]}' + b"\r\n" + (b"64\r\n" + b" " * 100 + b"\r\n") * 20_000 + b"0\r\n\r\n", True),
    ],
    ids=["many small chunks", "some small chunks", "many chunks of a usual size"],
)
def test_a_body_of_many_small_chunks_is_refused(client: httpx.Client, body: bytes, is_taken: bool) -> None:
    """One request of two megabytes would hold up all others for ten seconds."""
    with closing(Client(port_of(client.base_url))) as sender:
        sender.socket.sendall(CHUNKED)
        with suppress(ConnectionError):
            sender.socket.sendall(body)
        if is_taken:
            assert sender.socket.recv(65_536).startswith(b"HTTP/1.1 200 ")
        else:
            assert "small chunks" in error_in(sender.answer(), 400)["message"]


def test_a_client_that_does_not_read_is_disconnected(start: Start) -> None:
    """A large answer that its client does not read would otherwise stay in the server's memory."""
    client = start(protocol=impatient_protocol(response=0.4))
    ingest(client, *(job_event("active", n, extensions={f"a{n}": "x" * 1_500_000}) for n in range(3)))
    ingest(client, *(job_event("active", n, extensions={f"a{n}": "x" * 1_500_000}) for n in range(3, 6)))
    whole = len(client.get("/jobs/job-1").content)
    assert whole > 8_000_000
    with closing(Client(port_of(client.base_url))) as client_that_stalls:
        client_that_stalls.socket.sendall(b"GET /api/jobs/job-1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client_that_stalls.socket.recv(1)
        wait_until(lambda: not _is_open(client_that_stalls.socket))
        assert len(client_that_stalls.answer()) < whole


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"GET /api/health HTTP/1.1\r\n\r\n",
        b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000,
        b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nContent-Length: many\r\n\r\n",
        INGEST.replace(b"Content-Length: 1000", b"Transfer-Encoding: chunked") + b"\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
    ids=["nonsense", "version", "no host", "long header", "length", "chunk", "tls"],
)
def test_a_request_that_is_not_http_gets_an_error_in_the_same_form(client: httpx.Client, request_bytes: bytes) -> None:
    """A program that reads the API's errors would otherwise fail on one of another form."""
    with closing(Client(port_of(client.base_url))) as other:
        other.socket.sendall(request_bytes)
        assert error_in(other.answer(), 400)["code"] == "VALIDATION_ERROR"


def test_a_fault_behind_the_answer_only_ends_the_connection(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Any client could otherwise fill the log with tracebacks."""
    with closing(Client(port_of(client.base_url))) as other:
        other.socket.sendall(b"POST /api/nowhere HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert other.socket.recv(65_536).startswith(b"HTTP/1.1 404")
        other.socket.sendall(b"zz\r\n")
        assert b"HTTP/1.1" not in other.answer()
    assert "Traceback" not in caplog.text


@contextmanager
def stopping_server(tmp_path: Path, **arguments: Any) -> Iterator[ForkedServer]:
    """Start a server that must end within 15 seconds of its signal, without a stack trace."""
    with running_server(tmp_path / "s.db", **arguments) as server:
        yield server
        within(15, lambda: server.exit_code is not None, "it does not end")
        assert server.exit_code == 0
        assert "Traceback" not in server.log()


def test_a_slow_request_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """A user who stops the server would otherwise read a stack trace, and the client would get no answer."""
    with stopping_server(tmp_path, grace=1) as server, closing(Client(port_of(server.url))) as client:
        client.socket.sendall(INGEST + b"\r\n")
        client.drip()
        wait_until(lambda: httpx.get(f"{server.url}/health").status_code == 200)
        server.send(signal.SIGTERM)
        assert error_in(client.answer(), 503)["code"] == "SERVICE_UNAVAILABLE"


def test_a_request_that_arrives_while_the_server_ends_is_served(tmp_path: Path) -> None:
    """Events that were on their way would otherwise be sent twice at each restart."""
    body = json.dumps({"events": [job_event("active", 0)]}).encode().ljust(1000)
    with stopping_server(tmp_path) as server, closing(Client(port_of(server.url))) as client:
        client.socket.sendall(INGEST + b"\r\n" + body[:500])
        wait_until(lambda: httpx.get(f"{server.url}/health").status_code == 200)
        server.send(signal.SIGTERM)
        wait_until(lambda: not _accepts(server.url))
        client.socket.sendall(body[500:])
        assert client.answer().startswith(b"HTTP/1.1 200 ")


def test_a_request_that_is_cut_off_by_the_end_is_answered(tmp_path: Path) -> None:
    """A client would otherwise have to guess whether its events were stored."""
    with (
        stopping_server(tmp_path) as server,
        closing(Client(port_of(server.url))) as client,
        closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as other,
    ):
        other.execute("BEGIN EXCLUSIVE")
        client.socket.sendall(INGEST + b"\r\n" + json.dumps({"events": [job_event("active", 0)]}).encode().ljust(1000))
        wait_until(lambda: httpx.get(f"{server.url}/health").status_code == 200)
        server.send(signal.SIGTERM)
        wait_until(lambda: not _accepts(server.url))
        server.send(signal.SIGTERM)  # the second one does not wait
        assert error_in(client.answer(), 503)["code"] == "SERVICE_UNAVAILABLE"


def _is_open(client: socket.socket) -> bool:
    """Return whether the server, which is in this process, has kept the connection."""
    connections = psutil.Process().net_connections("tcp4")
    return any(connection.raddr == client.getsockname() for connection in connections)


def _accepts(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port_of(url))) == 0


def test_requests_that_are_not_http_do_not_flood_the_log(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A scanner of ports would fill the disk with lines, in which the others are not found."""
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    try:
        for _ in range(5):
            with closing(Client(port_of(client.base_url))) as other:
                other.socket.sendall(b"\x16\x03\x01\r\n\r\n")
                assert error_in(other.answer(), 400)
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records] == ["Invalid HTTP request received."]
