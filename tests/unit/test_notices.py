"""What a user reads in a healthy worker's log: one line at its start, one at its stop; or that the agent is off."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from sluice_agent.notices import log_start, log_stop
from sluice_agent.settings import Settings
from sluice_agent.transport.journal.ship_lock import ShipLock
from tests.unit.transport.lines import CONNECTION, event, write_file

SETTINGS = Settings(api_key="sk_test", connection_id=UUID(CONNECTION), api_url="http://sluice.test/api")


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged from INFO on."""
    caplog.set_level(logging.INFO, "sluice_agent")
    return caplog


def test_a_start_names_journal_destination_and_shipper(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """A user can't tell a worker that reports from one that does not, nor find what it has written."""
    lock = ShipLock(tmp_path, "sluice")
    assert lock.acquire()
    log_start(SETTINGS, tmp_path, "celery@host")
    lock.release()
    log_start(SETTINGS, tmp_path, "celery@host")
    first, second = (record.getMessage() for record in log.records)
    assert f"is on for celery@host: its journal is {tmp_path}, it delivers to http://sluice.test/api/ingest" in first
    assert first.endswith("shipped by this process")
    assert second.endswith("shipped by the first process that takes the lock")


def test_a_start_names_another_process_that_ships(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """The second worker of a host would look as if it delivered its events itself."""
    lock = ShipLock(tmp_path, "sluice")
    assert lock.acquire()
    (tmp_path / "ship-sluice.lock").write_text('{"pid": 4711, "hostname": "elsewhere"}')
    log_start(SETTINGS, tmp_path, "celery@host")
    assert log.records[0].getMessage().endswith("shipped by process 4711 on elsewhere")
    assert (os.getpid(), socket.gethostname()) != (4711, "elsewhere")


def test_a_start_without_a_shipper_names_the_command(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """With SLUICE_SHIP=never and no shipper beside it, events collect until the disk's limit."""
    log_start(replace(SETTINGS, ship="never"), tmp_path, "celery@host")
    assert "`sluice-agent ship`" in log.records[0].getMessage()


def test_a_stop_counts_what_is_left(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """A worker that stops while the endpoint is down looks as if its last events were lost."""
    log_stop(SETTINGS, tmp_path)
    write_file(tmp_path, event(1), event(2))
    log_stop(SETTINGS, tmp_path)
    assert [record.getMessage() for record in log.records] == [
        "sluice-agent stops: everything is delivered",
        f"sluice-agent stops: 2 events for sluice wait in {tmp_path} for the next process that ships",
    ]


OFF = """
import logging, sluice_agent
from celery import signals
sluice_agent.install()
logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")  # as a worker sets up its log
signals.worker_ready.send(None)
"""


def test_an_agent_that_is_off_says_so_in_the_worker() -> None:
    """A worker sets up its log after its app is imported: the line would be logged to nowhere, and the user left with
    an agent that seems to do nothing."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    ended = subprocess.run([sys.executable, "-c", OFF], env=env, capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines() == ["INFO sluice-agent is off: SLUICE_API_KEY is not set"]
