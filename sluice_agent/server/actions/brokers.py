"""Which broker belongs to which connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from sluice_agent.server.actions.broker import Broker
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.store.schema import connection


@dataclass(frozen=True, slots=True)
class Brokers:
    """The brokers of a server: one for each connection that is named (by name or UUID), and one without a name.

    The latter belongs to the connection `default_for`; if that is None, to the only connection that there is. A job of
    one cluster must never be sent to another.
    """

    by_connection: Mapping[str, Broker] = field(default_factory=dict)
    default: Broker | None = None
    default_for: str | None = None

    def for_runs(self) -> Broker | None:
        """Return the broker whose workers execute runs of the jobs API: the one without a name, or the only one."""
        named = list(self.by_connection.values())
        return self.default if self.default is not None or len(named) != 1 else named[0]

    def of(self, reader: Connection, number: int) -> Broker:
        """Return the broker of the connection with this number. Raises `RefusedError` (400) if it has none."""
        rows = reader.execute(select(connection.c.number, connection.c.id, connection.c.name)).all()
        row = next(row for row in rows if row.number == number)
        names = [name for name in (row.name, row.id) if name is not None]
        named = next((self.by_connection[name] for name in names if name in self.by_connection), None)
        if named is not None:
            return named
        label = names[0]
        if self.default is None:
            reason = f"no broker is known: start sluice-agent serve with --broker {label}=URL, or with -A and its app"
        elif self.default_for in names or (self.default_for is None and len(rows) == 1):
            return self.default
        else:
            reason = f"the server has several connections: start it with --broker {label}=URL"
        raise RefusedError(400, f"Jobs of the connection {label} can't be retried or revoked: {reason}.")
