"""Two servers on one PostgreSQL, as behind a balancer: writers, readers of the stream, and a server that is killed."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.forked_server import ForkedServer
from tests.support.local_sluice import ANY_KEY
from tests.support.stream_client import NO_TLS, open_stream
from tests.support.waiting import wait_until
from tests.unit.server.events import CONNECTION, at, ingest, job_event

WRITERS = 8
JOBS = 240
BATCH = 12


@pytest.fixture
def servers(new_postgresql: str, tmp_path: Path) -> Iterator[list[ForkedServer]]:
    """Two servers, which start at the same time on an empty database."""
    servers: list[ForkedServer] = []
    starts = [
        threading.Thread(target=lambda n=n: servers.append(ForkedServer(new_postgresql, tmp_path / str(n))))
        for n in range(2)
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert len(servers) == 2
    yield servers
    for server in servers:
        server.kill()


def client_of(server: ForkedServer) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers=ANY_KEY, timeout=30, verify=NO_TLS)


class Reader(threading.Thread):
    """Reads the stream of one server after the other, from where it was; `leaves` says after which frames."""

    def __init__(self, servers: list[ForkedServer], first: int, leaves: Callable[[], bool]) -> None:
        super().__init__()
        self.positions: list[int] = []
        self.last_id: str | None = None
        self.end: int | None = None
        """The last position, once it is known."""
        self._servers = servers
        self._numbers = itertools.count(first)
        self._leaves = leaves

    def run(self) -> None:
        """Read until the last position."""
        while not self._has_all():
            server = self._servers[next(self._numbers) % len(self._servers)]
            with suppress(httpx.TransportError):  # nothing came for a while, or the server was killed
                self._read(server.url)

    def _read(self, url: str) -> None:
        with open_stream(url, self.last_id, timeout=1, connectionId=CONNECTION) as stream:
            for frame in stream.frames():
                self.last_id = frame.id or self.last_id
                if frame.event == "job:state_change":
                    self.positions.append(frame.position)
                assert frame.event != "stream:reset"
                if self._has_all() or self._leaves():
                    return

    def _has_all(self) -> bool:
        return self.end is not None and self.positions[-1:] == [self.end]


class Writer(threading.Thread):
    """Sends batches to its server, and to the other one if that is gone or can't take them."""

    def __init__(self, clients: list[httpx.Client], batches: list[list[dict[str, Any]]]) -> None:
        super().__init__()
        self._clients = itertools.cycle(clients)
        self._batches = batches
        self.sent = 0

    def run(self) -> None:
        """Send all batches."""
        client = next(self._clients)
        for batch in self._batches:
            while not self._is_taken(client, batch):
                client = next(self._clients)
            self.sent += 1

    def _is_taken(self, client: httpx.Client, batch: list[dict[str, Any]]) -> bool:
        try:
            return client.post("/ingest", json={"events": batch}).status_code == 200
        except httpx.TransportError:
            return False


def batches() -> list[list[dict[str, Any]]]:
    """Return the events of all jobs: those of one job are far from each other, and in no order."""
    events = [
        job_event(state, second, externalId=f"job-{job}", event_id=f"{job}-{state}", **fields)
        for job in range(JOBS)
        for state, second, fields in (
            ("queued", 0, {"createdAt": at(0)}),
            ("active", 1, {"startedAt": at(1), "workerId": "celery@a"}),
            ("completed", 2, {"startedAt": at(1), "workerId": "celery@a"}),
        )
    ]
    random.Random(1).shuffle(events)
    return [events[start : start + BATCH] for start in range(0, len(events), BATCH)]


@pytest.mark.long
def test_every_position_comes_once_and_in_order(
    servers: list[ForkedServer], new_postgresql: str, tmp_path: Path
) -> None:
    """Behind a balancer, a page would otherwise miss changes that another process has written, or show them twice."""
    chance = random.Random(2)
    clients = [client_of(server) for server in servers]
    ingest(clients[0], job_event("queued", 0, externalId="first"))
    never, sometimes = (lambda: False), (lambda: chance.random() < 0.05)
    readers = [Reader(servers[:1], 0, never), *(Reader(servers, first, sometimes) for first in (0, 1))]
    for reader in readers:
        reader.start()
    wait_until(lambda: all(reader.last_id for reader in readers), 10, "a reader has no stream")
    parts = batches()
    writers = [Writer(clients[n % 2 :] + clients[: n % 2], parts[n::WRITERS]) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    wait_until(lambda: sum(writer.sent for writer in writers) > len(parts) // 3, 20, "nothing is taken")
    servers[1].kill()
    servers[1] = ForkedServer(new_postgresql, tmp_path / "again")
    for writer in writers:
        writer.join()
    clients[1] = client_of(servers[1])
    with psycopg.connect(new_postgresql) as connection:
        (last,) = connection.execute("SELECT position FROM connection").fetchone() or (0,)
        states = connection.execute("SELECT state, jobs FROM tally WHERE jobs <> 0").fetchall()
    for reader in readers:
        reader.end = last
        reader.join(30)
    assert [reader.positions for reader in readers] == [list(range(2, last + 1))] * len(readers)
    assert sorted(number for _, number in states) == [1, JOBS]
    for client in clients:
        completed = client.get("/jobs", params={"state": "completed", "limit": 1}).json()
        assert completed["pagination"]["total"] == JOBS
        assert completed["data"][0]["durationMs"] == 1_000
        client.close()


def test_each_read_of_the_api_is_answered(servers: list[ForkedServer]) -> None:
    """A query that only SQLite understands would otherwise fail for those who run several servers."""
    with client_of(servers[0]) as writing, client_of(servers[1]) as reading:
        ingest(
            writing,
            job_event("queued", 0, createdAt=at(0), queue="q"),
            job_event("failed", 2, startedAt=at(1), workerId="celery@a", queue="q", error="ValueError: no"),
        )
        (job,) = reading.get("/jobs", params={"search": "SEND", "queue": "q", "connectionId": CONNECTION}).json()[
            "data"
        ]
        assert (job["state"], job["error"]) == ("failed", "ValueError: no")
        assert reading.get(f"/jobs/{job['id']}").json()["stateHistory"][0]["state"] == "queued"
        for sort in ("createdAt", "name", "state", "durationMs", "queue", "startedAt", "worker"):
            assert reading.get("/jobs", params={"sortBy": sort}).json()["data"][0]["id"] == job["id"], sort
        assert reading.get("/jobs", params={"errorClass": "ValueError"}).status_code == 200
        for path in ("/health", "/queues", "/workers", "/tasks"):
            assert reading.get(path).status_code == 200, path


def test_a_late_event_changes_what_another_server_has_counted(servers: list[ForkedServer]) -> None:
    """A chart would otherwise depend on which of the servers took the events that it is about."""
    now = datetime.now(timezone.utc)
    with client_of(servers[0]) as writing, client_of(servers[1]) as reading:
        for number, hours in enumerate((0, 2, 30, 100, 500), 1):  # counted by minutes, hours and days
            time = (now - timedelta(hours=hours, seconds=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            end = job_event("completed", 0, externalId=f"{hours}", queue="q", completedAt=time) | {"timestamp": time}
            ingest(writing, end)
            for parameters in ({"timeRange": "90d"}, {"from": (now - timedelta(days=80)).isoformat()}):
                (task,) = reading.get("/tasks", params=parameters).json()["data"]
                (queue,) = reading.get("/queues", params=parameters).json()["data"]
                assert task["completed"] == number
                assert sum(bar["succeeded"] for bar in queue["healthBar"]["buckets"]) == number
        for time_range, number in (("90m", 1), ("11h", 2), ("48h", 3), ("6d", 4)):
            (task,) = reading.get("/tasks", params={"timeRange": time_range}).json()["data"]
            assert task["completed"] == number


def test_a_database_that_is_away_is_answered_with_503(servers: list[ForkedServer], new_postgresql: str) -> None:
    """A restart of PostgreSQL would otherwise look like a fault of the server, and fill its log with stack traces."""
    maintenance, _, name = new_postgresql.rpartition("/")

    def let_in(are_allowed: bool) -> None:
        with psycopg.connect(f"{maintenance}/postgres", autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {are_allowed}".encode())
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

    batch = {"events": [job_event("queued", 0)]}
    with client_of(servers[0]) as client:
        let_in(are_allowed=False)
        responses = [
            client.get("/health"),
            client.get("/jobs"),
            client.get("/events/stream", params={"connectionId": CONNECTION}),
            client.post("/ingest", json=batch),
        ]
        assert [response.status_code for response in responses] == [503] * 4
        assert all(int(response.headers["retry-after"]) > 0 for response in responses)
        let_in(are_allowed=True)
        wait_until(lambda: client.post("/ingest", json=batch).status_code == 200, 10, "it does not write again")
        assert client.get("/jobs").json()["pagination"]["total"] == 1
    assert "Traceback" not in servers[0].log()
