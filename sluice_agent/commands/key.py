"""``sluice-agent key``: connections, their keys, and sign-in links, in the database of a server that may be running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sluice_agent.commands.common import UserError
from sluice_agent.commands.printable import printable
from sluice_agent.commands.server_database import database_option, server_database

if TYPE_CHECKING:
    from sluice_agent.server.access.accounts import NewKey
    from sluice_agent.server.access.audit import AuditEntry
    from sluice_agent.server.access.setup import Access
    from sluice_agent.server.store.named_connection import NamedConnection

_ROLES = ("ingest", "viewer", "operator")
_NEVER = "never"
_WHO = "command line"


@click.group()
def key() -> None:
    """Make, list and revoke the keys of a server, and print sign-in links for browsers.

    The server may be running: what these commands do takes effect at once.
    """


@key.command()
@click.option("--connection", required=True, help="Its name or UUID. A connection that is absent is made.")
@click.option("--role", required=True, type=click.Choice(_ROLES), help="Send events; read; or read and act.")
@database_option
def create(connection: str, role: str, database: Path | str | None) -> None:
    """Make a key of one connection. It is shown once: only its hash is stored."""
    from sluice_agent.server.access.principal import Role  # noqa: PLC0415 - the extra `server`

    with _access(database, may_create=True) as access:
        named, is_new = access.accounts.open_connection(connection)
        if is_new:
            click.echo(f"Connection {named.name or named.id} is new.", err=True)
        if role == "ingest" and access.accounts.has_unkeyed_jobs(named.number):
            click.echo(
                "Until now any key could send jobs of this connection: retry only those that you know.", err=True
            )
        made = access.accounts.create_key(named, Role(role))
        _note(access, "key create", made.id, named)
        _print_key(made)


@key.command("list")
@database_option
def list_keys(database: Path | str | None) -> None:
    """List keys and sessions, with their last use."""
    with _access(database) as access:
        rows = [("ID", "KIND", "ROLE", "CONNECTION", "MADE", "LAST USED", "STATE")]
        for key in access.accounts.list_keys():
            state = f"revoked {_day(key.revoked_at)}" if key.revoked_at else "valid"
            connection = key.connection.name or key.connection.id
            times = _day(key.created_at), _minute(key.last_used_at)
            rows.append((key.id, "key", key.role.value, connection, *times, state))
        for session in access.sessions.all():
            times = _day(session.created_at), _minute(session.last_used_at)
            rows.append((session.id, "session", session.role.value, "all", *times, f"until {_day(session.expires_at)}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@key.command()
@click.argument("key_id", metavar="ID")
@database_option
def revoke(key_id: str, database: Path | str | None) -> None:
    """Revoke a key, or end a session, by its ID in the list. It is refused from then on."""
    with _access(database) as access:
        if access.sessions.end(key_id, _entry("session end", key_id)):
            click.echo(f"Session {key_id} has ended.")
            return
        key = access.accounts.revoke_key(key_id)
        _note(access, "key revoke", key_id, key.connection)
        click.echo(f"Key {key_id} ({key.role.value}) is revoked.")


@key.command()
@click.argument("key_id", metavar="ID")
@database_option
def rotate(key_id: str, database: Path | str | None) -> None:
    """Revoke a key and make a new one of the same connection and role.

    The old key is refused at once. For a change without a pause make a second key, switch, and revoke the first.
    """
    with _access(database) as access:
        made = access.accounts.rotate_key(key_id)
        _note(access, f"key rotate to {made.id}", key_id, made.connection)
        _print_key(made)


@key.command()
@click.option("--role", default="operator", show_default=True, type=click.Choice(_ROLES[1:]), help="Read; or act too.")
@click.option("--url", default="http://127.0.0.1:8787", show_default=True, help="The server's address in the browser.")
@database_option
def link(role: str, url: str, database: Path | str | None) -> None:
    """Print a sign-in link for a browser. It works once, within a day."""
    from sluice_agent.server.access.principal import Role  # noqa: PLC0415 - the extra `server`

    with _access(database) as access:
        _note(access, "sign-in link", role)
        click.echo(f"{url.rstrip('/')}/login?token={access.sessions.create_token(Role(role))}")


@key.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1), help="How many.")
@database_option
def log(limit: int, database: Path | str | None) -> None:
    """Show the last actions, the newest first: who did what, and when."""
    with _access(database) as access:
        for logged in access.audit.latest(limit):
            action = logged.entry
            texts = _second(logged.at), action.who, action.action, action.subject, action.detail
            click.echo(printable("  ".join(texts).rstrip()))


@contextmanager
def _access(database: Path | str | None, *, may_create: bool = False) -> Iterator[Access]:
    """Open the parts of access on a server's database. Raises `UserError` if it is absent and may not be made."""
    try:
        from sluice_agent.server.access.setup import LOOPBACK_ONLY, open_access  # noqa: PLC0415 - an extra
        from sluice_agent.server.store.database import open_database  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UserError(f"key needs the extra: pip install 'sluice-agent[server]' ({error})") from None
    path = server_database(database)
    if not may_create and isinstance(path, Path) and not path.exists():
        raise UserError(f"{path} does not exist: name the server's database with --database, or start the server first")
    engine = open_database(path)
    try:
        yield open_access(engine, LOOPBACK_ONLY, lambda: datetime.now(timezone.utc))
    finally:
        engine.dispose()


def _note(access: Access, action: str, subject: str, connection: NamedConnection | None = None) -> None:
    access.audit.add(_entry(action, subject, connection))


def _entry(action: str, subject: str, connection: NamedConnection | None = None) -> AuditEntry:
    from sluice_agent.server.access.audit import AuditEntry  # noqa: PLC0415 - the extra `server`

    detail = (connection.name or connection.id) if connection else ""
    return AuditEntry(_WHO, action, subject, connection.number if connection else None, detail)


def _print_key(new: NewKey) -> None:
    """Print a new key in the form in which clients take it from their environment."""
    click.echo(f"Key {new.id}, role {new.role.value}, of connection {new.connection.name or new.connection.id}.")
    click.echo("It is shown once:", err=True)
    click.echo(f"SLUICE_CONNECTION_ID={new.connection.id}")
    click.echo(f"SLUICE_API_KEY={new.secret}")


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _second(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _minute(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else _NEVER
