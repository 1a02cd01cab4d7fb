"""The options of a server about access, and the parts of the room that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from sluice_agent.errors import ConfigError
from sluice_agent.server.access.accounts import Accounts, KeyExistsError, NewKey
from sluice_agent.server.access.audit import AuditLog
from sluice_agent.server.access.client_address import Proxies, proxies_of
from sluice_agent.server.access.exposure import Exposure, exposure_of
from sluice_agent.server.access.gate import Gate, UnmadeKeys
from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.sessions import Sessions
from sluice_agent.server.store.named_connection import NamedConnection


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """The options of a server.

    `host` is the address that it listens on, and `allowed_hosts` are further names that it answers to. With a
    `connection` (a name or a UUID), which is made if it is absent, only keys that were made send events. `api_key` is
    then made an ingest key of that connection; without a connection it is the only key that sends events on loopback,
    beside those that were made. `trusted_proxies` are the addresses and networks of proxies whose X-Forwarded-For is
    believed, beside those on this machine.
    """

    host: str = "127.0.0.1"
    allowed_hosts: Sequence[str] = ()
    connection: str | None = None
    api_key: str | None = None
    trusted_proxies: Sequence[str] = ()


LOOPBACK_ONLY = AccessOptions()
"""Those of a server that only this machine reaches, and to which any key may send events."""


@dataclass(frozen=True, slots=True)
class Access:
    """The parts of access on one database.

    `connection` is that of the options, and `new_key` the ingest key that was made for it because it had none.
    `takes_any_key` is True if a worker of this machine may send events with any key and any connection.
    """

    accounts: Accounts
    sessions: Sessions
    audit: AuditLog
    exposure: Exposure
    proxies: Proxies
    gate: Gate
    connection: NamedConnection | None = None
    new_key: NewKey | None = None
    takes_any_key: bool = False


def open_access(engine: Engine, options: AccessOptions, now: Callable[[], datetime]) -> Access:
    """Return the parts of access on the database of `engine`, by the clock `now`.

    Raises `ConfigError` if the options contradict each other or the database.
    """
    exposure = exposure_of(options.host, options.allowed_hosts)
    proxies = proxies_of(options.trusted_proxies)
    if exposure.is_open and options.api_key is not None and options.connection is None:
        raise ConfigError("--api-key needs --connection where others can reach the server: name the key's connection")
    accounts = Accounts(engine, now)
    connection, new_key = None, None
    if options.connection is not None:
        connection, _ = accounts.open_connection(options.connection)
        new_key = _ensure_key(accounts, connection, options.api_key)
    audit = AuditLog(engine, now)
    sessions = Sessions(engine, now, audit)
    unmade = UnmadeKeys(options.connection is None, options.api_key)
    gate = Gate(accounts, sessions, exposure, unmade)
    takes_any_key = not exposure.is_open and connection is None and options.api_key is None
    return Access(accounts, sessions, audit, exposure, proxies, gate, connection, new_key, takes_any_key)


def _ensure_key(accounts: Accounts, connection: NamedConnection, secret: str | None) -> NewKey | None:
    """Make `secret` an ingest key of `connection`, or a random key if it has none. Return the random one."""
    if secret is None:
        return accounts.create_first_key(connection)
    if accounts.find_key(secret) is None:
        with suppress(KeyExistsError):  # another process that starts at the same time was faster
            accounts.create_key(connection, Role.INGEST, secret)
    key = accounts.find_key(secret)
    if key is None or key.revoked_at is not None:
        raise ConfigError("the key of --api-key was revoked: choose another one")
    if key.connection.number != connection.number or key.role is not Role.INGEST:
        raise ConfigError(f"the key of --api-key is key {key.id}, of another connection or role: choose another one")
    return None
