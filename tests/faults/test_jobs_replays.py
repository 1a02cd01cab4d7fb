"""A server that is killed while it replays dead letters."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert, select

from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.store.ids import new_id
from sluice_agent.jobs.store.schema import run
from sluice_agent.jobs.store.store import JobsStore
from tests.faults.conftest import IS_LONG
from tests.support.forked_server import ForkedServer
from tests.support.local_sluice import ANY_KEY
from tests.support.stream_client import NO_TLS
from tests.support.waiting import wait_until

RUNS, KILLS = (100_000, 20) if IS_LONG else (3_000, 3)


class Installation:
    """A server that is killed and started again. Its runs stay queued, as their job is paused."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.database = directory / "s.db"
        self.server = self.start()

    def start(self) -> ForkedServer:
        """Start the server."""
        return ForkedServer(self.database, self._directory / "server", engine=EngineOptions())

    def kill(self) -> None:
        """Kill the server, and start it again."""
        self.server.kill()
        self.server = self.start()

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request, and return the body of its answer."""
        url = f"{self.server.url.removesuffix('/api')}/v1{path}"
        answer = httpx.request(method, url, json=body, headers=ANY_KEY, verify=NO_TLS, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json()


def test_a_replay_survives_kills_and_replays_no_run_twice(tmp_path: Path) -> None:
    """A server that dies during a replay would do the work of some runs twice, and leave others as they are."""
    installation = Installation(tmp_path)
    try:
        job = {"project_id": "shop", "name": "Mail", "slug": "mail", "endpoint_url": "http://127.0.0.1:9/"}
        made = installation.send("POST", "/jobs", job)
        installation.send("POST", f"/jobs/{made['id']}/pause")
        store = JobsStore(installation.database, lambda: datetime.now(timezone.utc))
        _add_dead_letters(store, made)
        replay = f"/replays/{installation.send('POST', '/replays', {'project_id': 'shop'})['id']}"
        for kill in range(KILLS):
            goal = RUNS * (kill + 1) // (KILLS + 2)
            wait_until(lambda goal=goal: installation.send("GET", replay)["replayed"] >= goal, 60, "it does not go on")
            time.sleep(random.uniform(0, 0.05))  # so that it is killed at any point of a transaction
            installation.kill()
        wait_until(lambda: installation.send("GET", replay)["state"] == "completed", 300, "it does not end")
        done = installation.send("GET", replay)
        assert (done["total"], done["replayed"], done["refused"]) == (RUNS, RUNS, 0)
        with store.reading() as reader:
            assert Counter(tuple(row) for row in reader.execute(select(run.c.status, run.c.retries))) == {
                ("queued", 1): RUNS
            }
        store.close()
    finally:
        installation.server.kill()


def _add_dead_letters(store: JobsStore, job: dict[str, Any]) -> None:
    now = store.moment
    rows = [
        {
            "id": new_id(now + number),
            "job_id": job["id"],
            "project_id": "shop",
            "status": "dead_letter",
            "attempt": 1,
            "priority": 0,
            "payload": "{}",
            "payload_hash": "x",
            "triggered_by": "manual",
            "created_at": now + number,
            "job_version": 1,
            "job_version_id": job["version_id"],
            "debug_mode": False,
            "available_at": now,
            "finished_at": now,
        }
        for number in range(RUNS)
    ]
    with store.writing() as writer:
        writer.execute(insert(run), rows)
