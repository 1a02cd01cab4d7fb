"""The command: the address line, signals, the file, and errors at the start."""

from __future__ import annotations

import signal
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice_agent.errors import ConfigError
from sluice_agent.server.app import create_app
from sluice_agent.server.jobs_api import check_packages
from sluice_agent.server.runner import serve
from tests.support.forked_server import ForkedServer
from tests.unit.server.events import job_event

HEADERS = {"Authorization": "Bearer sk_test"}


@contextmanager
def running_server(database: Path, **arguments: Any) -> Iterator[ForkedServer]:
    """Start a process that serves `database`, with the given arguments of `serve`; kill it at the end."""
    server = ForkedServer(database, **arguments)
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_port_ends_by_signal_and_keeps_everything(tmp_path: Path, number: signal.Signals) -> None:
    """Scripts could otherwise neither find the server nor stop it without losing what it holds."""
    database = tmp_path / "new" / "sluice.db"
    with running_server(database) as server, httpx.Client(headers=HEADERS) as client:
        assert server.url.endswith("/api")
        client.post(f"{server.url}/ingest", json={"events": [job_event("active", 0)]}).raise_for_status()
        server.send(number)
        assert server.wait(20) == 0
    assert database.stat().st_mode & 0o077 == 0
    with running_server(database) as server:
        assert httpx.get(f"{server.url}/jobs/job-1").json()["state"] == "active"


def test_what_was_accepted_survives_a_kill(tmp_path: Path) -> None:
    """A crash would otherwise lose events that the server had answered as accepted."""
    with running_server(tmp_path / "s.db") as server:
        httpx.post(
            f"{server.url}/ingest", json={"events": [job_event("active", 0)]}, headers=HEADERS
        ).raise_for_status()
        server.kill()
    with running_server(tmp_path / "s.db") as server:
        assert httpx.get(f"{server.url}/jobs/job-1").status_code == 200


def test_answers_on_an_open_connection_leave_at_once(tmp_path: Path) -> None:
    """Every request but the first would otherwise wait 40 ms for an acknowledgement, a page of ten half a second."""
    with running_server(tmp_path / "s.db") as server, httpx.Client() as client:
        waits = []
        for _ in range(31):
            start = time.perf_counter()
            client.get(f"{server.url}/health")
            waits.append(time.perf_counter() - start)
    # The kernel acknowledges the first ones at once. Of the others a busy machine delays some, but not all.
    assert min(waits[16:]) < 0.03


def test_an_address_in_use_is_a_readable_error(tmp_path: Path) -> None:
    """A user who starts a second server would otherwise get a stack trace."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"can't listen on 127\.0\.0\.1:{port} .*choose another"):
            serve(database=tmp_path / "s.db", port=port)
    with pytest.raises(ConfigError, match=r"can't listen on 127\.0\.0\.1:99999"):
        serve(database=tmp_path / "s.db", port=99_999)


def test_a_file_that_is_not_our_database_is_a_readable_error(tmp_path: Path) -> None:
    """A mistyped path could otherwise destroy a file, or end in a stack trace."""
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all " * 100)
    with pytest.raises(ConfigError, match=r"notes\.txt can't be used as a database"):
        create_app(text)
    assert text.read_text().startswith("not a database")
    with pytest.raises(ConfigError, match="can't be used as a database"):
        create_app(tmp_path)
    with sqlite3.connect(tmp_path / "newer.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(ConfigError, match="another version"):
        create_app(tmp_path / "newer.db")


def test_a_package_of_the_jobs_api_is_missed_at_the_start() -> None:
    """After an upgrade without the extra the server would start, and the first job would be an internal error."""
    check_packages()
    with pytest.raises(ImportError, match="No module named none_such"):
        check_packages(("json", "none_such"))
