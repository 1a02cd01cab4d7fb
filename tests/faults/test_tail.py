"""`sluice-agent tail` over a kill of the server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx

from tests.support.process import Process, free_port
from tests.support.waiting import wait_until
from tests.unit.server.events import CONNECTION, job_event

HEADERS = {"Authorization": "Bearer sk_test"}
STATES = ("queued", "active", "completed")


@contextmanager
def command(log: Path, *args: str) -> Iterator[Process]:
    """Run ``sluice-agent`` with arguments."""
    process = Process([sys.executable, "-m", "sluice_agent", *args], log, env=dict(os.environ))
    try:
        yield process
    finally:
        process.stop()


def send(url: str, jobs: int) -> set[tuple[str, str]]:
    """Send new jobs; return each with each of its states."""
    names = [f"job-{uuid4()}" for _ in range(jobs)]
    events = [
        job_event(state, second, name=name, externalId=name) for name in names for second, state in enumerate(STATES)
    ]
    response = httpx.post(f"{url}/ingest", json={"events": events}, headers=HEADERS)
    assert response.json()["accepted"] == len(events), response.text
    return {(name, state) for name in names for state in STATES}


def test_tail_shows_every_change_once_over_a_kill_of_the_server(tmp_path: Path) -> None:
    """After each restart of the server a script that reads `tail` would count some jobs twice, or not at all."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    serve = ("serve", "--port", str(port), "--database", str(tmp_path / "sluice.db"))
    log = tmp_path / "tail.log"

    def shown() -> list[tuple[str, str]]:
        changes = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [(change["name"], change["state"]) for change in changes]

    with command(tmp_path / "first.log", *serve) as server:
        wait_until(lambda: "listening" in server.logs())
        send(url, 1)
        with command(log, "tail", "--url", url, "--connection", CONNECTION, "--json") as tail:
            wait_until(lambda: send(url, 1) and shown())
            before = shown()
            expected = send(url, 200)
            wait_until(lambda: expected & set(shown()))
            server.stop()
            with command(tmp_path / "second.log", *serve) as restarted:
                wait_until(lambda: "listening" in restarted.logs())
                expected |= send(url, 100)
                wait_until(lambda: expected <= set(shown()), context=tail.tail)
    assert len(before) < len(shown())
    assert len(set(shown())) == len(shown())
    assert "The stream broke off" in log.read_text()
    assert "may be missing" not in log.read_text()
