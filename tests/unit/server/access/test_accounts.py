"""Connections and keys in the database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import Engine

from sluice_agent.errors import ConfigError
from sluice_agent.server.access.accounts import Accounts
from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import AccessOptions, open_access
from tests.unit.server.access.conftest import Clock

ID = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
def accounts(engine: Engine, clock: Clock) -> Accounts:
    """The accounts of a new database."""
    return Accounts(engine, clock)


def test_a_connection_keeps_its_id(accounts: Accounts) -> None:
    """Agents are configured with the id: a new one at each start would lose all their events."""
    made, is_new = accounts.open_connection("shop")
    found, is_new_again = accounts.open_connection(" shop ")
    assert (found, is_new, is_new_again) == (made, True, False)
    assert accounts.open_connection("other")[0].id != made.id


def test_a_connection_can_be_named_by_its_id(accounts: Accounts) -> None:
    """Agents that run already have an id, and a deployment decides on one before the server has started."""
    made, _ = accounts.open_connection(ID.upper())
    assert (made.id, made.name) == (ID, None)
    assert accounts.open_connection(ID) == (made, False)


@pytest.mark.parametrize("name", ["", "  ", "x" * 256, "a\nb"])
def test_a_name_that_can_not_be_shown_is_refused(accounts: Accounts, name: str) -> None:
    """An unset variable of a script would otherwise make a connection without a name."""
    with pytest.raises(ConfigError, match="choose another name"):
        accounts.open_connection(name)


def test_processes_that_start_at_once_make_one_connection(engine: Engine, clock: Clock) -> None:
    """Two replicas of the server would otherwise have a connection each, and half of the events."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: Accounts(engine, clock).open_connection("shop")[0], range(16)))
    assert len(set(made)) == 1


def test_the_database_holds_no_key(accounts: Accounts, tmp_path: Path) -> None:
    """Who reads a backup could otherwise send events, or act."""
    key = accounts.create_key(accounts.open_connection("shop")[0], Role.OPERATOR)
    assert key.secret.startswith("sk_local_")
    assert len(key.secret) > 50
    files = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    assert not any(key.secret.encode() in content or key.secret[20:40].encode() in content for content in files)
    found = accounts.find_key(key.secret)
    assert found is not None
    assert (found.id, found.connection, found.role) == (key.id, key.connection, Role.OPERATOR)
    assert accounts.find_key(key.secret + "x") is None
    assert accounts.find_key("\ud800") is None


def test_the_last_use_is_shown_to_the_minute(accounts: Accounts, clock: Clock) -> None:
    """A key that nothing uses can't be found without it; a write for each request would slow ingest down."""
    secret = accounts.create_key(accounts.open_connection("shop")[0], Role.INGEST).secret

    def last_use() -> object:
        (key,) = accounts.list_keys()
        return key.last_used_at

    def use() -> None:
        found = accounts.find_key(secret)
        assert found is not None
        accounts.note_use(found)

    assert last_use() is None
    use()
    first = clock.now
    clock.pass_(timedelta(seconds=59))
    use()
    assert last_use() == first
    clock.pass_(timedelta(seconds=1))
    use()
    assert last_use() == clock.now


def test_a_principal_is_revoked_with_its_key(accounts: Accounts) -> None:
    """What a leaked key has begun would go on after its revocation."""
    key = accounts.create_key(accounts.open_connection("shop")[0], Role.OPERATOR)
    assert not accounts.is_revoked(f"key {key.id}")
    accounts.revoke_key(key.id)
    assert accounts.is_revoked(f"key {key.id}")
    assert not accounts.is_revoked(f"session {key.id}")


def test_rotation_revokes_the_old_key_and_keeps_connection_and_role(accounts: Accounts) -> None:
    """A key that has leaked must become useless, and its successor must fit in its place."""
    old = accounts.create_key(accounts.open_connection("shop")[0], Role.VIEWER)
    new = accounts.rotate_key(old.id)
    assert (new.connection, new.role) == (old.connection, old.role)
    assert new.secret != old.secret
    revoked = accounts.find_key(old.secret)
    assert revoked is not None
    assert revoked.revoked_at is not None
    with pytest.raises(ConfigError, match="key create"):
        accounts.rotate_key(old.id)
    with pytest.raises(ConfigError, match="key list"):
        accounts.revoke_key("nothing")


def test_of_rotations_at_once_one_makes_a_successor(accounts: Accounts) -> None:
    """A key that nobody has noted would stay valid, after two operators have rotated the same one."""
    old = accounts.create_key(accounts.open_connection("shop")[0], Role.VIEWER)
    start = Barrier(8)

    def is_rotated(_: int) -> bool:
        start.wait(10)
        try:
            accounts.rotate_key(old.id)
        except ConfigError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(is_rotated, range(8))) == 1
    assert len([key for key in accounts.list_keys() if key.revoked_at is None]) == 1


def test_an_ingest_key_closes_its_connection_for_others_for_ever(accounts: Accounts) -> None:
    """Revoking a leaked key would otherwise open the connection to everyone."""
    connection = accounts.open_connection(ID)[0]
    accounts.create_key(connection, Role.VIEWER)
    assert not accounts.is_keyed(connection.number)
    assert accounts.without_key([ID]) == (set(), True)
    key = accounts.create_key(connection, Role.INGEST)
    accounts.revoke_key(key.id)
    assert accounts.is_keyed(connection.number)
    assert accounts.without_key([ID, "other"]) == ({ID}, True)


@pytest.mark.parametrize("secret", ["pk_1", "sk_ 1", "sk_é", "sk_1 "])
def test_a_key_that_clients_can_not_send_is_refused(accounts: Accounts, secret: str) -> None:
    """The server would otherwise start, and refuse every request."""
    with pytest.raises(ConfigError, match="begins with sk_"):
        accounts.create_key(accounts.open_connection("shop")[0], Role.INGEST, secret)


@pytest.mark.parametrize("api_key", [None, "sk_shared"])
def test_processes_that_start_at_once_make_one_key(engine: Engine, clock: Clock, api_key: str | None) -> None:
    """Replicas of a server would otherwise print a key each, or fail to start."""
    options = AccessOptions(connection="shop", api_key=api_key)
    with ThreadPoolExecutor(8) as pool:
        opened = list(pool.map(lambda _: open_access(engine, options, clock), range(16)))
    assert sum(access.new_key is not None for access in opened) == (0 if api_key else 1)
    assert len(opened[0].accounts.list_keys()) == 1
