"""The stream over cuts, restarts and a change of the server process: every position once, in order."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from random import Random
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from sluice_agent.client.server_sent_events import ServerSentEvent, parse
from tests.support.forked_server import ForkedServer
from tests.unit.server.events import CONNECTION, job_event

HEADERS = {"Authorization": "Bearer sk_test"}
STATES = ("queued", "active", "completed")
JOBS = 10  # of a batch
CUT_BYTES = 40_000  # a subscriber is cut somewhere in its next bytes
LEAD = 5_000  # events that writers may be ahead of the subscriber: the database keeps the latest 10,000 frames


class Servers:
    """One or more server processes on one database, some of which are killed and started again."""

    def __init__(self, database: Path | str, logs: Path, number: int) -> None:
        self._database, self._logs = database, logs
        self._running = [self._start() for _ in range(number)]

    def url(self, random: Random) -> str:
        """Return the address of one of them, which may be gone soon."""
        return random.choice(self._running).url

    def restart(self, random: Random) -> None:
        """Kill one, and start another in its place."""
        index = random.randrange(len(self._running))
        self._running[index].kill()
        self._running[index] = self._start()

    def kill(self) -> None:
        for server in self._running:
            server.kill()

    def _start(self) -> ForkedServer:
        return ForkedServer(self._database, files=self._logs / uuid4().hex)


@dataclass
class Writer:
    """Sends jobs with their states until it is stopped; what is not answered is sent again."""

    servers: Servers
    number: int
    may_send: Callable[[], bool]
    sent: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        random = Random(self.number)
        with httpx.Client(headers=HEADERS, timeout=30) as client:
            while not self.stopping.is_set():
                jobs = [str(uuid4()) for _ in range(JOBS)]
                events = [
                    job_event(state, second, externalId=job, event_id=f"{job}-{state}")
                    for job in jobs
                    for second, state in enumerate(STATES)
                ]
                while not self._post(client, random, events):
                    self.stopping.wait(0.05)
                self.sent += len(events)
                while not self.may_send() and not self.stopping.is_set():
                    self.stopping.wait(0.02)

    def _post(self, client: httpx.Client, random: Random, events: list[dict[str, object]]) -> bool:
        try:
            response = client.post(f"{self.servers.url(random)}/ingest", json={"events": events})
        except httpx.TransportError:
            return False
        return response.status_code == 200


@dataclass
class Subscriber:
    """A subscriber whose connection is cut at random bytes."""

    servers: Servers
    random: Random
    last_id: str
    frames: list[ServerSentEvent] = field(default_factory=list)

    @property
    def positions(self) -> list[int]:
        return [int(str(frame.id).rpartition("-")[2]) for frame in self.frames if frame.event == "job:state_change"]

    def read(self, size: int, expected: int | None = None) -> None:
        """Open the stream after the last id, and read `size` bytes of it, or until the `expected` position is here."""
        address = urlsplit(self.servers.url(self.random))
        connection = HTTPConnection(address.netloc, timeout=20)
        path = f"{address.path}/events/stream?connectionId={CONNECTION}"
        try:
            connection.request("GET", path, headers={**HEADERS, "Last-Event-ID": self.last_id})
            response = connection.getresponse()
            assert response.status == 200
            for frame in parse(_at_most(response.read1, size)):
                self.frames.append(frame)
                self.last_id = frame.id or self.last_id
                if expected is not None and self.last_id.endswith(f"-{expected}"):
                    break
        except (OSError, HTTPException):
            pass  # the server was killed
        finally:
            connection.close()


def _at_most(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    left = size
    while left > 0 and (chunk := read(left)):
        left -= len(chunk)
        yield chunk


def check_a_subscriber_that_is_cut(servers: Servers, writers: int, cuts: int, kills: int) -> None:
    """Cut a subscriber while `writers` send and servers are killed; at its end it must have every position once."""
    random = Random(1)
    with httpx.Client(headers=HEADERS) as client:
        first = job_event("queued", 0, externalId="first")
        assert client.post(f"{servers.url(random)}/ingest", json={"events": [first]}).status_code == 200
    subscriber = Subscriber(servers, random, _id_of_the_start(servers.url(random)))
    sending: list[Writer] = []

    def may_send() -> bool:
        return sum(writer.sent for writer in sending) - len(subscriber.frames) < LEAD

    sending += [Writer(servers, number, may_send) for number in range(writers)]
    threads = [threading.Thread(target=writer.run) for writer in sending]
    for thread in threads:
        thread.start()
    try:
        for cut in range(cuts):
            if cut % (cuts // kills) == cuts // kills - 1:
                servers.restart(random)
            subscriber.read(random.randrange(1, CUT_BYTES))
    finally:
        for writer in sending:
            writer.stopping.set()
        for thread in threads:
            thread.join()
    expected = 1 + sum(writer.sent for writer in sending)
    while len(subscriber.positions) < expected:
        before = len(subscriber.frames)
        subscriber.read(CUT_BYTES, expected)
        assert len(subscriber.frames) > before, (
            f"{expected} positions were sent, and no more come after {subscriber.last_id}"
        )
    assert subscriber.positions == list(range(1, expected + 1))
    assert not [frame for frame in subscriber.frames if frame.event == "stream:reset"]
    changes = [json.loads(frame.data) for frame in subscriber.frames if frame.event == "job:state_change"]
    assert len({(change["id"], change["state"]) for change in changes}) == expected


def _id_of_the_start(url: str) -> str:
    """Return the id of the first position: what a subscriber has that has seen nothing."""
    with httpx.stream("GET", f"{url}/events/stream", params={"connectionId": CONNECTION}, headers=HEADERS) as response:
        first = next(parse(response.iter_bytes()))
    return str(first.id).rpartition("-")[0] + "-0"


@pytest.mark.long
def test_a_subscriber_that_is_cut_gets_everything_once(tmp_path: Path, repeats: Callable[[int, int], int]) -> None:
    """A page would miss the end of a job, or count it twice, after each deployment and each lost connection."""
    servers = Servers(tmp_path / "sluice.db", tmp_path, 1)
    try:
        check_a_subscriber_that_is_cut(servers, writers=2, cuts=repeats(40, 200), kills=repeats(3, 10))
    finally:
        servers.kill()


@pytest.mark.long
def test_a_subscriber_that_changes_between_servers_gets_everything_once(
    new_postgresql: str, tmp_path: Path, repeats: Callable[[int, int], int]
) -> None:
    """Behind a balancer, what the next process sends would overlap what the last one sent, or leave a gap."""
    servers = Servers(new_postgresql, tmp_path, 2)
    try:
        check_a_subscriber_that_is_cut(servers, writers=8, cuts=repeats(40, 200), kills=repeats(2, 10))
    finally:
        servers.kill()
