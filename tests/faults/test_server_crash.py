"""The server's database: the process killed while it writes, and a disk that is full."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice_agent import log
from sluice_agent.server.access.principal import Role
from sluice_agent.server.record.frames import FrameBlock
from tests.faults.disk import Disk
from tests.support.forked_server import ForkedServer
from tests.support.local_sluice import local_sluice
from tests.support.waiting import wait_until
from tests.unit.server.events import CONNECTION, ingest, job_event

CLIENTS = 4
EVENTS = 60  # of a batch: three of each job
HEADERS = {"Authorization": "Bearer sk_test"}


def batch_of(client: int, number: int) -> list[dict[str, Any]]:
    """Return a batch whose jobs no other batch has."""
    return [
        job_event(state, second, externalId=f"{client}-{number}-{job}", event_id=f"{client}-{number}-{job}-{state}")
        for job in range(EVENTS // 3)
        for second, state in enumerate(("queued", "active", "completed"))
    ]


@dataclass
class Client:
    """A client that sends one batch after the other until the server is gone."""

    number: int
    sent: int = 0
    answered: list[int] = field(default_factory=list)

    def run(self, url: str) -> None:
        """Send batches; remember those that were answered."""
        with httpx.Client(headers=HEADERS) as client:
            while True:
                batch = self.sent = self.sent + 1
                try:
                    response = client.post(f"{url}/ingest", json={"events": batch_of(self.number, batch)}, timeout=30)
                except httpx.TransportError:
                    return
                assert response.json()["accepted"] == EVENTS, response.text
                self.answered.append(batch)


def check(database: Path) -> None:
    """Check that the tables agree with each other."""
    with closing(sqlite3.connect(database)) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        (jobs,) = file.execute("SELECT count(*) FROM job").fetchone()
        assert file.execute("SELECT sum(jobs) FROM tally WHERE jobs != 0").fetchone() == (jobs or None,)
        assert file.execute("SELECT count(*) FROM step").fetchone() == (3 * jobs,)
        assert file.execute("SELECT coalesce(sum(events), 0) FROM usage").fetchone() == (3 * jobs,)
        blocks = file.execute("SELECT last, body FROM frame_block ORDER BY last").fetchall()
        assert all(last - before == len(FrameBlock(body)) for (before, _), (last, body) in pairwise(blocks))
        (position,) = file.execute("SELECT coalesce(max(position), 0) FROM connection").fetchone()
        assert position == (blocks[-1][0] if blocks else 0)


@pytest.mark.long
def test_what_was_answered_survives_every_kill(tmp_path: Path, repeats: Callable[[int, int], int]) -> None:
    """A crash would otherwise lose events that agents have deleted from their journals, or leave half a batch."""
    chance = random.Random(1)
    database = tmp_path / "s.db"
    clients = [Client(number) for number in range(CLIENTS)]
    for _ in range(repeats(5, 50)):
        server = ForkedServer(database)
        threads = [threading.Thread(target=client.run, args=(server.url,)) for client in clients]
        before = sum(len(client.answered) for client in clients)
        for thread in threads:
            thread.start()
        wait_until(lambda before=before: sum(len(c.answered) for c in clients) > before, 20, "nothing is answered")  # type: ignore[misc]
        threading.Event().wait(chance.uniform(0, 0.2))  # the moment of the kill is what varies
        server.kill()
        for thread in threads:
            thread.join()
        check(database)
    server = ForkedServer(database)
    with httpx.Client(headers=HEADERS, timeout=30) as http:
        for client in clients:
            for batch in range(1, client.sent + 1):
                answer = http.post(f"{server.url}/ingest", json={"events": batch_of(client.number, batch)}).json()
                whole = EVENTS if batch in client.answered else answer["skipped"]
                assert answer["skipped"] == whole
                assert whole in {0, EVENTS}, "half a batch"
    server.kill()
    check(database)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of a few megabytes."""
    if os.geteuid():
        pytest.skip("only root can mount a disk")
    disk = Disk(tmp_path / "disk", 12_000_000)
    yield disk
    disk.close()


def test_a_full_disk_is_answered_with_503_and_loses_nothing(disk: Disk) -> None:
    """An agent would otherwise discard what the server could not store, or the server stay broken."""
    database = disk.path / "s.db"
    server = ForkedServer(database)
    with httpx.Client(headers=HEADERS, timeout=30) as client:

        def post(batch: int) -> httpx.Response:
            return client.post(f"{server.url}/ingest", json={"events": batch_of(0, batch)})

        assert post(1).status_code == 200
        disk.fill()
        refused = None
        accepted = [1]
        for batch in range(2, 500):
            response = post(batch)
            if response.status_code != 200:
                refused = response
                break
            accepted.append(batch)
        assert refused is not None
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert client.get(f"{server.url}/jobs/0-1-1").status_code == 200  # reading goes on
        disk.empty()
        answer = post(accepted[-1] + 1).json()
        assert (answer["accepted"], answer["skipped"]) == (EVENTS, 0)
        assert {post(batch).json()["skipped"] for batch in accepted} == {EVENTS}
    server.kill()
    check(database)


def test_a_sign_in_on_a_full_disk_keeps_its_link(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """An operator who wants to see what is wrong would read that the server failed, and have lost the link; the log
    would fill what is left of the disk."""
    log.last_logged.clear()
    with local_sluice(disk.path / "s.db") as server, httpx.Client(base_url=server.url) as client:
        ingest(server.client(), job_event("failed", 0))
        tokens = [server.access.sessions.create_token(Role.OPERATOR) for _ in range(2)]
        assert client.get("/login", params={"token": tokens[0]}).status_code == 200
        key = server.access.accounts.create_key(server.access.accounts.open_connection(CONNECTION)[0], Role.OPERATOR)
        headers = {"Authorization": f"Bearer {key.secret}"}
        disk.fill()
        for batch in range(1_000):
            event = job_event("failed", batch, externalId=f"job-{batch}", error="x" * 9_000)
            if client.post("/api/ingest", json={"events": [event]}, headers=HEADERS).status_code != 200:
                break
        for request in (
            client.build_request("GET", "/login", params={"token": tokens[1]}),
            client.build_request("POST", "/logout", headers={"Sec-Fetch-Site": "same-origin"}),
            client.build_request("POST", "/api/jobs/bulk/retry", json={"filter": {}}, headers=headers),
        ):
            response = client.send(request)
            assert response.status_code == 503, request.url
            assert "The database can't be used now" in response.text
            assert response.headers["retry-after"]
        for _ in range(3):
            assert client.get("/api/jobs", headers=headers).status_code == 200
        messages = [record.getMessage() for record in caplog.records]
        assert sum("Could not record the use of a key" in message for message in messages) == 1
        assert sum("the database can't be used" in message for message in messages) == 1
        disk.empty()
        assert client.get("/login", params={"token": tokens[1]}).status_code == 200
