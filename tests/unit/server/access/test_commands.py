"""`sluice-agent key`, and what `serve` prints."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from sluice_agent.cli import main
from sluice_agent.server.access.audit import AuditEntry
from tests.support.local_sluice import local_sluice
from tests.support.process import Process
from tests.support.waiting import wait_until
from tests.unit.server.events import CONNECTION, job_event

Key = Callable[..., Result]
SECRET = re.compile(r"^SLUICE_API_KEY=(sk_local_\S+)$", re.MULTILINE)
CONNECTION_ID = re.compile(r"^SLUICE_CONNECTION_ID=(\S+)$", re.MULTILINE)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The database of a server."""
    return tmp_path / "sluice.db"


@pytest.fixture
def key(database: Path) -> Key:
    """`key(command, …)` runs a command of `sluice-agent key` on that database."""

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(main, ["key", *arguments, "--database", str(database)])
        assert result.exit_code == code, result.output
        return result

    return run


def only(pattern: re.Pattern[str], text: str) -> str:
    (found,) = pattern.findall(text)
    return str(found)


def test_keys_are_made_and_revoked_while_the_server_runs(database: Path, key: Key) -> None:
    """A leaked key must become useless without a restart, which would interrupt all others."""
    with local_sluice(database) as server:
        made = key("create", "--connection", "shop", "--role", "ingest").stdout
        secret, connection_id = only(SECRET, made), only(CONNECTION_ID, made)
        client = server.client({"Authorization": f"Bearer {secret}"})
        batch = {"events": [job_event("active", 0) | {"connectionId": connection_id}]}
        assert client.post("/ingest", json=batch).json()["accepted"] == 1
        listed = key("list").stdout
        assert secret not in listed
        (row,) = (line for line in listed.splitlines() if "ingest" in line)
        assert re.search(r"shop +\S+ +\d{4}-\d\d-\d\d \d\d:\d\d UTC +valid$", row)
        rotated = key("rotate", row.split()[0]).stdout
        assert only(CONNECTION_ID, rotated) == connection_id
        assert client.post("/ingest", json=batch).status_code == 401
        client.headers["Authorization"] = f"Bearer {only(SECRET, rotated)}"
        assert client.post("/ingest", json=batch).json()["skipped"] == 1
        (row,) = (line for line in key("list").stdout.splitlines() if line.endswith("valid"))
        assert "is revoked" in key("revoke", row.split()[0]).stdout
        assert client.post("/ingest", json=batch).status_code == 401


def test_a_connection_that_was_open_comes_with_a_warning(database: Path, key: Key) -> None:
    """Jobs that were forged before look like all others, and could be retried in good faith."""
    with local_sluice(database) as server:
        server.client().post("/ingest", json={"events": [job_event("failed", 0)]}).raise_for_status()
    create = ("create", "--connection", CONNECTION, "--role")
    assert "any key" not in key(*create, "viewer").stderr
    assert "any key could send jobs" in key(*create, "ingest").stderr
    assert "any key" not in key(*create, "ingest").stderr


def test_a_link_signs_in_with_its_role(database: Path, key: Key) -> None:
    """Who has lost the line that serve printed would otherwise have to restart the server."""
    with local_sluice(database) as server:
        link = key("link", "--role", "viewer", "--url", server.url).stdout.strip()
        client = server.client({}, path="")
        assert "Signed in as viewer" in client.get(link).text
        (row,) = (line for line in key("list").stdout.splitlines() if "session" in line)
        assert "has ended" in key("revoke", row.split()[0]).stdout
        assert "Not signed in" in client.get("/login").text
    log = key("log").stdout.splitlines()
    assert [re.split(r"  +", line)[1:] for line in log] == [
        ["command line", "session end", row.split()[0]],
        [f"session {row.split()[0]}", "sign in", "viewer"],
        ["command line", "sign-in link", "viewer"],
    ]


def test_the_log_shows_an_action_in_one_line(database: Path, key: Key) -> None:
    """Who may send events chooses the names of tasks: one could look like the action of somebody else."""
    with local_sluice(database) as server:
        server.access.audit.add(AuditEntry("key 1", "revoke", "job-1", detail="a\n2026-01-01  key 2  retry\x1b[2J"))
    (line,) = key("log").stdout.splitlines()
    assert line.endswith(r"key 1  revoke  job-1  a\n2026-01-01  key 2  retry\x1b[2J")


@pytest.mark.parametrize(
    "arguments", [("list",), ("revoke", "x"), ("rotate", "x"), ("link",), ("log",)], ids=lambda arguments: arguments[0]
)
def test_a_database_that_does_not_exist_is_not_made(database: Path, key: Key, arguments: tuple[str, ...]) -> None:
    """A mistyped path would otherwise answer that there are no keys."""
    assert "--database" in key(*arguments, code=2).output
    assert not database.exists()


def test_a_key_that_does_not_exist_can_not_be_revoked(key: Key) -> None:
    """A mistyped id would otherwise leave the leaked key valid."""
    key("create", "--connection", "shop", "--role", "viewer")
    assert "sluice-agent key list" in key("revoke", "nothing", code=2).output


def test_serve_prints_address_link_and_key_once(tmp_path: Path) -> None:
    """Scripts wait for the first line; the key can't be had again; and who did what is in the log."""
    outputs = []
    for name in ("first", "second"):
        log = tmp_path / name
        command = [
            sys.executable,
            "-m",
            "sluice_agent",
            "serve",
            "--port",
            "0",
            "--connection",
            "shop",
            "--database",
            str(tmp_path / "s.db"),
            "--write-env",
            str(tmp_path / ".env"),
        ]
        process = Process(command, log)
        try:
            output = wait_until(lambda log=log: text if (text := log.read_text()).count("\n") >= 3 else None)
            lines = output.splitlines()
            url = lines[0].removeprefix("sluice-agent serve: listening on ").removesuffix("/api")
            assert httpx.get(lines[1].split()[5]).status_code == 200
            assert lines[1].split()[5].startswith(f"{url}/login?token=")
            wait_until(lambda log=log: re.search("INFO .*: sign in operator", log.read_text()))
        finally:
            process.stop()
        outputs.append(output)
    first, second = outputs
    assert "\nexport SLUICE_API_KEY=sk_local_" in first
    environment = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert f"\nexport SLUICE_API_KEY={environment['SLUICE_API_KEY']}\n" in first  # the second server keeps it
    assert f"\nexport SLUICE_API_URL={environment['SLUICE_API_URL']}\n" in second
    assert "as printed by: sluice-agent key create --connection shop --role ingest" in second
    assert "sk_" not in second
    connections = [re.findall("SLUICE_CONNECTION_ID=(.*)", output) for output in outputs]
    assert connections[0] == connections[1]


def test_the_link_can_be_opened_where_the_server_listens_on_all_addresses(tmp_path: Path) -> None:
    """0.0.0.0 is no address of a page: on some systems a browser does not open it."""
    command = [sys.executable, "-m", "sluice_agent", "serve", "--host", "0.0.0.0", "--port", "0"]
    log = tmp_path / "log"
    process = Process([*command, "--database", str(tmp_path / "s.db")], log)
    try:
        output = wait_until(lambda: text if (text := log.read_text()).count("\n") >= 2 else None)
        link = output.splitlines()[1].split()[5]
        assert link.startswith("http://localhost:")
        assert httpx.get(link).status_code == 200
    finally:
        process.stop()
