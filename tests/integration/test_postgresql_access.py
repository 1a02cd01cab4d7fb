"""Connections, keys and sessions on PostgreSQL, where several servers have them in common."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from sluice_agent.cli import main
from sluice_agent.server.store.database import open_database
from tests.support.local_sluice import local_sluice
from tests.unit.server.access.conftest import clock
from tests.unit.server.access.test_accounts import (  # the same tests, here on the engine below
    accounts,
    test_a_connection_can_be_named_by_its_id,
    test_a_connection_keeps_its_id,
    test_an_ingest_key_closes_its_connection_for_others_for_ever,
    test_processes_that_start_at_once_make_one_connection,
    test_processes_that_start_at_once_make_one_key,
    test_rotation_revokes_the_old_key_and_keeps_connection_and_role,
    test_the_last_use_is_shown_to_the_minute,
)
from tests.unit.server.access.test_commands import CONNECTION_ID, SECRET, only
from tests.unit.server.access.test_sessions import (
    sessions,
    test_a_session_that_was_ended_is_refused,
    test_a_token_works_once,
    test_a_token_works_once_for_all_processes,
    test_tokens_and_sessions_expire,
)
from tests.unit.server.events import job_event

__all__ = [
    "accounts",
    "clock",
    "sessions",
    "test_a_connection_can_be_named_by_its_id",
    "test_a_connection_keeps_its_id",
    "test_a_session_that_was_ended_is_refused",
    "test_a_token_works_once",
    "test_a_token_works_once_for_all_processes",
    "test_an_ingest_key_closes_its_connection_for_others_for_ever",
    "test_processes_that_start_at_once_make_one_connection",
    "test_processes_that_start_at_once_make_one_key",
    "test_rotation_revokes_the_old_key_and_keeps_connection_and_role",
    "test_the_last_use_is_shown_to_the_minute",
    "test_tokens_and_sessions_expire",
]


@pytest.fixture
def engine(new_postgresql: str) -> Iterator[Engine]:
    """An engine over a new database."""
    engine = open_database(new_postgresql)
    yield engine
    engine.dispose()


def test_a_key_and_a_session_count_for_every_server(new_postgresql: str) -> None:
    """Behind a balancer each request may reach another process."""

    def key(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["key", *arguments, "--database", new_postgresql])
        assert result.exit_code == 0, result.output
        return result.stdout

    with local_sluice(new_postgresql) as first, local_sluice(new_postgresql) as second:
        made = key("create", "--connection", "shop", "--role", "ingest")
        headers = {"Authorization": f"Bearer {only(SECRET, made)}"}
        batch = {"events": [job_event("active", 0) | {"connectionId": only(CONNECTION_ID, made)}]}
        answers = [server.client(headers).post("/ingest", json=batch).json() for server in (first, second)]
        assert [(answer["accepted"], answer["skipped"]) for answer in answers] == [(1, 0), (0, 1)]
        browser = first.client({}, path="")
        assert "Signed in" in browser.get(key("link", "--url", first.url).strip()).text
        browser.base_url = second.url
        assert "Signed in as operator" in browser.get("/login").text
        (row,) = (line for line in key("list").splitlines() if "session" in line)
        key("revoke", row.split()[0])
        assert "Not signed in" in browser.get("/login").text
