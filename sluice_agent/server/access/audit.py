"""The log of actions: who did what, to which job or key, and when. It is in the database, and in the server's log."""

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
class Action:
    """What `who` did: `action` such as ``retry``, to `subject` such as a job's id, in a connection by number."""

    who: str
    action: str
    subject: str
    connection: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LoggedAction:
    """An action and its time."""

    at: datetime
    action: Action


class ActionLog:
    """The actions in the database of `engine`, by the clock `now`."""

    def __init__(self, engine: Engine, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._now = now

    def add(self, action: Action, transaction: Connection | None = None) -> None:
        """Record `action` in `transaction`, so that both are committed or neither, or in one of its own."""
        if transaction is None:
            with writing(self._engine) as connection:
                self.add(action, connection)
            return
        transaction.execute(
            action_log.insert().values(
                at=to_moment(self._now()),
                who=action.who,
                action=action.action,
                connection=action.connection,
                subject=action.subject,
                detail=action.detail,
            )
        )
        _log.info("%s: %s %s %s", action.who, action.action, action.subject, action.detail)

    def latest(self, limit: int) -> list[LoggedAction]:
        """Return the last `limit` actions, the newest first."""
        query = select(action_log).order_by(action_log.c.number.desc()).limit(limit)
        with self._engine.begin() as connection:
            return [
                LoggedAction(to_datetime(row.at), Action(row.who, row.action, row.subject, row.connection, row.detail))
                for row in connection.execute(query)
            ]
