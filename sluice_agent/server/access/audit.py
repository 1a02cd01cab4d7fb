"""The audit log: who did what, to which job or key, and when. It is in the database, and in the server's log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine, select

from sluice_agent.server.store.access_tables import action_log
from sluice_agent.server.store.database import writing
from sluice_agent.server.timestamps import to_datetime, to_moment

_log = logging.getLogger("sluice_agent.server.actions")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What `who` did: `action` such as ``retry``, to `subject` such as a job's id, in a connection by number."""

    who: str
    action: str
    subject: str
    connection: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class TimedAuditEntry:
    """An entry, its number in the order of the log, and its time."""

    number: int
    at: datetime
    entry: AuditEntry


class AuditLog:
    """The entries in the database of `engine`, by the clock `now`."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def add(self, entry: AuditEntry, transaction: Connection | None = None) -> None:
        """Add `entry` in `transaction`, so that both are committed or neither, or in one of its own."""
        if transaction is None:
            with writing(self._engine) as own:
                self.add(entry, own)
            return
        transaction.execute(
            action_log.insert().values(
                at=to_moment(self._now()),
                who=entry.who,
                action=entry.action,
                connection=entry.connection,
                subject=entry.subject,
                detail=entry.detail,
            )
        )
        _log.info("%s: %s %s %s", entry.who, entry.action, entry.subject, entry.detail)

    def latest(self, limit: int, before: int | None = None) -> list[TimedAuditEntry]:
        """Return the last `limit` entries, of those before the one with this number, the newest first."""
        query = select(action_log).order_by(action_log.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(action_log.c.number < before)
        with self._engine.begin() as reader:
            return [
                TimedAuditEntry(
                    row.number,
                    to_datetime(row.at),
                    AuditEntry(row.who, row.action, row.subject, row.connection, row.detail),
                )
                for row in reader.execute(query)
            ]
