"""A server that is killed while a bulk action runs."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.faults.conftest import IS_LONG
from tests.support.brokers import Broker
from tests.support.process import Process, free_port
from tests.support.waiting import wait_until

JOBS = 1_000 if IS_LONG else 200
KILLS = 20 if IS_LONG else 3
COMMAND = [sys.executable, "-m", "sluice_agent"]


@contextmanager
def server(directory: Path, port: int, broker: str) -> Iterator[Process]:
    """Run `sluice-agent serve` over one file, and kill it at the end of the block."""
    process = Process(
        [*COMMAND, "serve", "--port", str(port), "--database", str(directory / "s.db"), "--connection", "shop",
         "--broker", f"shop={broker}", "--actions-tasks", "shop.*"],
        directory / "serve.log",
    )  # fmt: skip
    try:
        wait_until(lambda: httpx.get(f"http://127.0.0.1:{port}/api/health").is_success, 30, "no server", process.tail)
        yield process
    finally:
        process.stop()


def make_key(directory: Path, role: str) -> dict[str, str]:
    """Return the lines of a new key, by their names."""
    command = [*COMMAND, "key", "create", "--connection", "shop", "--role", role, "--database", str(directory / "s.db")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in output.splitlines() if line.startswith("SLUICE_"))


def failed_jobs(connection: str) -> list[dict[str, Any]]:
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    extensions = {"kwargs": {}, "argsWhole": True, "message": {"serializer": "json"}}
    return [
        {
            "type": "job_state_change",
            "timestamp": now,
            "framework": "celery",
            "connectionId": connection,
            "job": {
                "externalId": f"job-{number}",
                "name": "shop.send",
                "queue": "emails",
                "state": "failed",
                "extensions": {"args": [number], **extensions},
            },
        }
        for number in range(JOBS)
    ]


@pytest.mark.long
def test_a_bulk_retry_survives_kills_and_sends_no_job_twice(tmp_path: Path, brokers: Callable[[str], Broker]) -> None:
    """A server that dies during a bulk retry would send e-mails twice, or leave the rest unsent."""
    broker = brokers("redis").url
    port = free_port()
    operator, ingest = make_key(tmp_path, "operator"), make_key(tmp_path, "ingest")
    url, headers = f"http://127.0.0.1:{port}/api", {"Authorization": f"Bearer {operator['SLUICE_API_KEY']}"}
    api = httpx.Client(base_url=url, headers=headers)
    action = ""

    def progress() -> dict[str, Any]:
        return dict(api.get(f"/bulk-actions/{action}").raise_for_status().json())

    for kill in range(KILLS):
        with server(tmp_path, port, broker) as process:
            if not kill:
                sender = {"Authorization": f"Bearer {ingest['SLUICE_API_KEY']}"}
                events = failed_jobs(operator["SLUICE_CONNECTION_ID"])
                api.post("/ingest", json={"events": events}, headers=sender).raise_for_status()
                action = api.post("/jobs/bulk/retry", json={"filter": {"name": "shop.send"}}).json()["id"]
            goal = JOBS * (kill + 1) // (KILLS + 2)
            wait_until(lambda goal=goal: progress()["succeeded"] >= goal, 30, "it does not go on", process.tail)
            time.sleep(random.uniform(0, 0.02))  # so that it is killed at any point of a job
    with closing(api), server(tmp_path, port, broker) as process:
        wait_until(lambda: progress()["state"] == "completed", 60, "it does not end", process.tail)
        done = progress()
        with redis.Redis.from_url(broker) as client:
            sent = Counter(json.loads(message)["headers"]["id"] for message in client.lrange("emails", 0, -1))
            arguments = Counter(
                json.loads(message)["headers"]["argsrepr"] for message in client.lrange("emails", 0, -1)
            )
    assert max(sent.values()) == max(arguments.values()) == 1
    assert done["succeeded"] + done["unconfirmed"] == JOBS
    assert done["unconfirmed"] <= KILLS
    assert done["succeeded"] <= len(arguments) <= JOBS
