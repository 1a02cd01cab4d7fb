"""A PostgreSQL that is stopped and started under a running server."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.alert_rules import alert_options
from tests.support.local_sluice import local_sluice
from tests.support.postgresql import PostgresqlServer
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver
from tests.unit.server.events import CONNECTION, job_event

OWN_THREADS = {"store writer", "store notifications", "bulk actions", "webhooks", "alerts"}
STREAM = f"/events/stream?connectionId={CONNECTION}&types=job"


@pytest.fixture
def postgresql_of_its_own(tmp_path: Path) -> Iterator[PostgresqlServer]:
    server = PostgresqlServer(tmp_path / "postgresql")
    yield server
    server.close()


def own_threads(before: set[threading.Thread]) -> set[str]:
    return {thread.name for thread in set(threading.enumerate()) - before} & OWN_THREADS


def test_every_thread_goes_on_when_the_database_is_back(
    postgresql_of_its_own: PostgresqlServer, caplog: pytest.LogCaptureFixture
) -> None:
    """After a restart of PostgreSQL something would be missing until somebody restarts the server: the stream, bulk
    actions, alerts, or the deletion of old jobs; and a log with a line for each attempt hides the reason."""
    caplog.set_level(logging.WARNING, "sluice_agent")
    before = set(threading.enumerate())
    receiver = WebhookReceiver()
    alerts = alert_options(receiver, interval=0.05)
    with local_sluice(postgresql_of_its_own.url(), alerts=alerts) as server, server.client() as client:

        def accepts(event: str, seconds: float) -> bool:
            return client.post("/ingest", json={"events": [job_event(event, seconds)]}).status_code == 200

        assert accepts("queued", 0)
        assert own_threads(before) == OWN_THREADS
        postgresql_of_its_own.stop()
        end = time.monotonic() + 5  # longer than all of them wait
        while time.monotonic() < end:
            assert not accepts("active", 1)
            assert client.get("/jobs").status_code == 503
        postgresql_of_its_own.start()
        wait_until(lambda: accepts("active", 1), 20, "it does not write again")
        assert own_threads(before) == OWN_THREADS
        with client.stream("GET", STREAM) as stream:
            assert stream.status_code == 200, stream.read()
            lines = stream.iter_lines()
            next(lines)
            assert accepts("failed", 2)
            assert any('"state":"failed"' in line for line in lines)
        postgresql_of_its_own.stop()
    assert own_threads(before) == set()
    receiver.down()
    lines_of_log = [record.getMessage() for record in caplog.records]
    assert not [record for record in caplog.records if record.exc_info], lines_of_log
    assert len(lines_of_log) < 20, lines_of_log
