"""Sign-in tokens and sessions in the database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from sluice_agent.server.access.audit import AuditEntry, AuditLog
from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.sessions import SESSION_AGE, TOKEN_AGE, Sessions
from tests.unit.server.access.conftest import Clock


@pytest.fixture
def sessions(engine: Engine, clock: Clock) -> Sessions:
    """The sessions of a new database."""
    return Sessions(engine, clock, AuditLog(engine, clock))


def test_a_token_works_once(sessions: Sessions) -> None:
    """Who reads the log of the server later could otherwise sign in."""
    token = sessions.create_token(Role.VIEWER)
    signed_in = sessions.sign_in(token)
    assert signed_in is not None
    record, secret = signed_in
    assert record.role is Role.VIEWER
    assert sessions.find(secret) == record
    assert sessions.sign_in(token) is None
    assert sessions.sign_in("unknown") is None
    assert sessions.find("unknown") is None


def test_a_token_works_once_for_all_processes(engine: Engine, clock: Clock) -> None:
    """Two browsers that open the link at once would otherwise both be signed in."""
    token = Sessions(engine, clock, AuditLog(engine, clock)).create_token(Role.OPERATOR)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: Sessions(engine, clock, AuditLog(engine, clock)).sign_in(token), range(16)))
    assert sum(result is not None for result in results) == 1


def test_tokens_and_sessions_expire(sessions: Sessions, clock: Clock) -> None:
    """A link in an old log, or a browser that was given away, would otherwise open the server for ever."""
    late, token = sessions.create_token(Role.OPERATOR), sessions.create_token(Role.OPERATOR)
    signed_in = sessions.sign_in(token)
    assert signed_in is not None
    clock.pass_(TOKEN_AGE)
    assert sessions.sign_in(late) is None
    clock.pass_(SESSION_AGE - TOKEN_AGE - timedelta(seconds=1))
    assert sessions.find(signed_in[1]) is not None
    clock.pass_(timedelta(seconds=1))
    assert sessions.find(signed_in[1]) is None
    assert sessions.all() == []


def test_a_session_that_was_ended_is_refused(sessions: Sessions) -> None:
    """Signing out would otherwise leave the cookie valid."""
    signed_in = sessions.sign_in(sessions.create_token(Role.OPERATOR))
    assert signed_in is not None
    record, secret = signed_in
    assert sessions.end(record.id, AuditEntry("test", "session end", record.id))
    assert sessions.find(secret) is None
    assert not sessions.end(record.id, AuditEntry("test", "session end", record.id))


def test_the_database_holds_no_token_and_no_session(sessions: Sessions, tmp_path: Path) -> None:
    """Who reads a backup could otherwise take over a browser's session."""
    unused, token = sessions.create_token(Role.OPERATOR), sessions.create_token(Role.OPERATOR)
    signed_in = sessions.sign_in(token)
    assert signed_in is not None
    files = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    for text in (unused, token, signed_in[1]):
        assert not any(text.encode() in content for content in files)


def test_a_sign_in_that_can_not_be_logged_keeps_its_link(sessions: Sessions, engine: Engine, clock: Clock) -> None:
    """On a disk that is just full the link would be used up, and the browser have no session."""

    class FullLog(AuditLog):
        def add(self, entry: AuditEntry, transaction: Connection | None = None) -> None:
            raise OSError("no space left on device")

    token = sessions.create_token(Role.OPERATOR)
    with pytest.raises(OSError, match="no space"):
        Sessions(engine, clock, FullLog(engine, clock)).sign_in(token)
    assert sessions.sign_in(token) is not None
