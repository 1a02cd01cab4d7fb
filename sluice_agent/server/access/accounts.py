"""Connections and their keys.

A key belongs to one connection and has one role. It is shown once, when it is made. A connection that was ever given an
ingest key accepts events with its own keys only, wherever the server listens: forged events could otherwise be retried.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine, Row, Select, bindparam, exists, func, select
from sqlalchemy.exc import IntegrityError

from sluice_agent.errors import ConfigError
from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.tokens import digest, new_id, new_key
from sluice_agent.server.store.access_tables import api_key
from sluice_agent.server.store.database import writing
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.store.schema import connection as connections
from sluice_agent.server.store.schema import job
from sluice_agent.server.timestamps import to_datetime, to_moment

LONGEST_NAME = 255
"""Characters of a connection's name."""

MOST_CONNECTIONS = 200
"""Up to which events make connections. Lists read all of them: a client that sent ever new ids would stop those."""

_KEY = re.compile(r"sk_[0-9A-Za-z_-]{1,500}")
_USE_RESOLUTION = timedelta(minutes=1)  # of the last use: a write for each request would cost more than the request


class KeyExistsError(ConfigError):
    """A key with this secret was made before."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret."""

    id: str
    connection: NamedConnection
    role: Role
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. `secret` is not stored and can't be shown again."""

    id: str
    connection: NamedConnection
    role: Role
    secret: str


class Accounts:
    """The connections and keys in the database of `engine`; `now` is the clock for the times of keys."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def open_connection(self, name_or_id: str) -> tuple[NamedConnection, bool]:
        """Return the connection with this name, or this UUID, and whether it was made now.

        Raises `ConfigError` for a name that is empty or too long.
        """
        name = as_stored(name_or_id)
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
            raise ConfigError(f"a connection's name has 1 to {LONGEST_NAME} printable characters: choose another name")
        given_id = _uuid_or_none(name)
        query = _CONNECTIONS.where(connections.c.id == given_id if given_id else connections.c.name == name)
        with self._engine.begin() as reader:
            found = reader.execute(query).one_or_none()
        if found is None:
            values = {"id": given_id or str(uuid.uuid4()), "name": None if given_id else name}
            with suppress(IntegrityError), writing(self._engine) as transaction:  # another process may be faster
                transaction.execute(connections.insert().values(created_at=self._moment(), **values))
        with self._engine.begin() as reader:
            (row,) = reader.execute(query)
        return NamedConnection(*row), found is None

    def connection(self, number: int) -> NamedConnection:
        """Return the connection with this number, which exists."""
        with self._engine.begin() as reader:
            (row,) = reader.execute(_CONNECTIONS.where(connections.c.number == number))
        return NamedConnection(*row)

    def create_key(
        self, connection: NamedConnection, role: Role, secret: str | None = None, key_id: str | None = None
    ) -> NewKey:
        """Make a key of `connection`, with this `secret` and id or random ones, and return it.

        Raises `ConfigError` if the secret is no key, and `KeyExistsError` if it is one that exists already.
        """
        key = NewKey(key_id or new_id(), connection, role, secret or new_key())
        if not _KEY.fullmatch(key.secret):
            raise ConfigError("a key begins with sk_, then letters, digits, _ or -: choose another one")
        try:
            with writing(self._engine) as transaction:
                self._insert_key(transaction, key)
        except IntegrityError:
            raise KeyExistsError("this key exists already: choose another one") from None
        return key

    def create_first_key(self, connection: NamedConnection) -> NewKey | None:
        """Make the first ingest key of `connection` and return it; None if it ever had one.

        Of several processes that start at once, one makes it.
        """
        key = NewKey(new_id(), connection, Role.INGEST, new_key())
        row = select(connections.c.number).where(connections.c.number == connection.number)
        with writing(self._engine) as transaction:
            transaction.execute(row.with_for_update())
            if transaction.scalar(_ingest_keys(connection.number)) is not None:
                return None
            self._insert_key(transaction, key)
        return key

    def list_keys(self) -> list[Key]:
        """Return all keys, revoked ones included, by connection and age."""
        query = _KEYS.order_by(connections.c.number, api_key.c.created_at, api_key.c.id)
        with self._engine.begin() as reader:
            return [_key_of(row) for row in reader.execute(query)]

    def find_key(self, secret: str) -> Key | None:
        """Return the key with this `secret`, which may have been revoked."""
        with self._engine.begin() as reader:
            row = reader.execute(_KEY_BY_HASH, {"hash_": digest(secret)}).one_or_none()
        return _key_of(row) if row else None

    def key_with_id(self, key_id: str) -> Key:
        """Return the key that is listed as `key_id`. Raises `ConfigError` if there is none."""
        with self._engine.begin() as reader:
            row = reader.execute(_KEYS.where(api_key.c.id == key_id)).one_or_none()
        if row is None:
            raise ConfigError(f"there is no key {key_id}: sluice-agent key list shows all")
        return _key_of(row)

    def revoke_key(self, key_id: str) -> Key:
        """Make the key useless at once and return it. Raises `ConfigError` if there is none."""
        key = self.key_with_id(key_id)
        with writing(self._engine) as transaction:
            self._revoke(transaction, key_id)
        return key

    def rotate_key(self, key_id: str, secret: str | None = None, new: str | None = None) -> NewKey:
        """Revoke the key and return a new one of the same connection and role, with this `secret` and id or random
        ones. Raises `ConfigError` if it can't be."""
        old = self.key_with_id(key_id)
        key = NewKey(new or new_id(), old.connection, old.role, secret or new_key())
        with writing(self._engine) as transaction:
            if not self._revoke(transaction, key_id):
                raise ConfigError(f"the key {key_id} was revoked: make a new one with sluice-agent key create")
            self._insert_key(transaction, key)
        return key

    def note_use(self, key: Key) -> None:
        """Record that `key` is used now, to the minute."""
        now = self._now()
        if key.last_used_at is None or now - key.last_used_at >= _USE_RESOLUTION:
            with writing(self._engine) as transaction:
                used = api_key.update().where(api_key.c.id == key.id).values(last_used_at=to_moment(now))
                transaction.execute(used)

    def without_key(self, ids: Collection[str]) -> tuple[set[str], bool]:
        """Return what events under the connection `ids` meet if they come without a made key, as each batch may do.

        The first are those of `ids` that accept events with their own keys only; the second is whether the others are
        known, or few enough to be made.
        """
        if len(ids) > MOST_CONNECTIONS:
            return set(), False
        with self._engine.begin() as reader:
            known = {row[0]: row[1] for row in reader.execute(_ARE_KEYED, {"ids": list(ids)})}
            has_room = len(known) == len(ids) or self._has_room(reader, len(ids) - len(known))
        return {connection_id for connection_id, is_keyed in known.items() if is_keyed}, has_room

    def _has_room(self, reader: Connection, new: int) -> bool:
        return (reader.scalar(select(func.count()).select_from(connections)) or 0) + new <= MOST_CONNECTIONS

    def is_keyed(self, number: int) -> bool:
        """Return whether the connection with this `number` accepts events with its own keys only."""
        with self._engine.begin() as reader:
            return reader.scalar(_ingest_keys(number)) is not None

    def is_revoked(self, who: str) -> bool:
        """Return whether `who`, as in a `Principal`, is a key that was revoked."""
        kind, _, key_id = who.partition(" ")
        query = select(api_key.c.id).where(api_key.c.id == key_id, api_key.c.revoked_at.is_not(None))
        with self._engine.begin() as reader:
            return kind == "key" and reader.scalar(query) is not None

    def has_unkeyed_jobs(self, number: int) -> bool:
        """Return whether the connection has jobs that any key may have sent: it has no ingest key yet."""
        with self._engine.begin() as reader:
            has_jobs = reader.scalar(select(job.c.number).where(job.c.connection == number).limit(1)) is not None
        return has_jobs and not self.is_keyed(number)

    def _insert_key(self, transaction: Connection, key: NewKey) -> None:
        transaction.execute(
            api_key.insert().values(
                id=key.id,
                hash=digest(key.secret),
                connection=key.connection.number,
                role=key.role.value,
                created_at=self._moment(),
            )
        )

    def _revoke(self, transaction: Connection, key_id: str) -> bool:
        """Revoke a key. Return False if it was revoked already."""
        is_valid = (api_key.c.id == key_id) & api_key.c.revoked_at.is_(None)
        revoked = api_key.update().where(is_valid).values(revoked_at=self._moment())
        return bool(transaction.execute(revoked).rowcount)

    def _moment(self) -> int:
        return to_moment(self._now())


_CONNECTIONS = select(connections.c.number, connections.c.id, connections.c.name)

_KEYS = select(
    api_key.c.id,
    connections.c.number,
    connections.c.id.label("connection_id"),
    connections.c.name,
    api_key.c.role,
    api_key.c.created_at,
    api_key.c.last_used_at,
    api_key.c.revoked_at,
).join(connections, connections.c.number == api_key.c.connection)


_KEY_BY_HASH = _KEYS.where(api_key.c.hash == bindparam("hash_"))

_ARE_KEYED = select(
    connections.c.id,
    exists().where(api_key.c.connection == connections.c.number, api_key.c.role == Role.INGEST.value),
).where(connections.c.id.in_(bindparam("ids", expanding=True)))
"""Known connections, and whether each ever had an ingest key."""


def _ingest_keys(number: int) -> Select[tuple[str]]:
    is_ingest_key = (api_key.c.connection == number) & (api_key.c.role == Role.INGEST.value)
    return select(api_key.c.id).where(is_ingest_key).limit(1)


def _key_of(row: Row[tuple[str, int, str, str, str, int, int, int]]) -> Key:
    return Key(
        row.id,
        NamedConnection(row.number, row.connection_id, row.name),
        Role(row.role),
        to_datetime(row.created_at),
        None if row.last_used_at is None else to_datetime(row.last_used_at),
        None if row.revoked_at is None else to_datetime(row.revoked_at),
    )


def as_stored(name_or_id: str) -> str:
    """Return the name or UUID of a connection as the database has it: users write both in several ways."""
    name = name_or_id.strip()
    return _uuid_or_none(name) or name


def _uuid_or_none(text: str) -> str | None:
    try:
        return str(uuid.UUID(text)) if len(text) == len(str(uuid.NAMESPACE_DNS)) else None
    except ValueError:
        return None
