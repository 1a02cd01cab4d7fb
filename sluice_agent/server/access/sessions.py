"""Sign-in without an account: a token in a link is exchanged once for a session, which a browser's cookie holds.

Tokens and sessions are in the database, so that every server process on it knows them, and a restart ends none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Engine, Row, select

from sluice_agent.server.access.audit import AuditEntry, AuditLog
from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.tokens import digest, new_id, new_token
from sluice_agent.server.store.access_tables import session as sessions
from sluice_agent.server.store.access_tables import signin_token
from sluice_agent.server.store.database import writing
from sluice_agent.server.timestamps import to_datetime, to_moment

TOKEN_AGE = timedelta(hours=24)
"""How long a sign-in link can be used, once."""

SESSION_AGE = timedelta(days=30)
"""How long a session lasts, from its sign-in."""

_USE_RESOLUTION = timedelta(minutes=10)  # of the last use


@dataclass(frozen=True, slots=True)
class Session:
    """A session without its secret."""

    id: str
    role: Role
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


class Sessions:
    """The sign-in tokens and sessions in the database of `engine`; `now` is the clock by which they expire.

    A session begins and ends with its entry in `audit`, or not at all.
    """

    def __init__(self, engine: Engine, now: Callable[[], datetime], audit: AuditLog) -> None:
        self._engine = engine
        self._audit = audit
        self._now = now

    def create_token(self, role: Role) -> str:
        """Return a new token for a sign-in link. The sessions and tokens that have expired are removed."""
        token = new_token()
        now = self._now()
        with writing(self._engine) as transaction:
            for table in (signin_token, sessions):
                transaction.execute(table.delete().where(table.c.expires_at <= to_moment(now)))
            expiry = to_moment(now + TOKEN_AGE)
            transaction.execute(signin_token.insert().values(hash=digest(token), role=role.value, expires_at=expiry))
        return token

    def sign_in(self, token: str) -> tuple[Session, str] | None:
        """Exchange a sign-in token for a session and its secret; None if the token is unknown, used or has expired."""
        secret = new_token()
        now = self._now()
        is_token = signin_token.c.hash == digest(token)
        with writing(self._engine) as transaction:
            row = transaction.execute(select(signin_token).where(is_token)).one_or_none()
            used_now = transaction.execute(signin_token.delete().where(is_token)).rowcount == 1
            if row is None or not used_now or row.expires_at <= to_moment(now):
                return None
            session = Session(new_id(), Role(row.role), now, now + SESSION_AGE, None)
            transaction.execute(
                sessions.insert().values(
                    id=session.id,
                    hash=digest(secret),
                    role=row.role,
                    created_at=to_moment(now),
                    expires_at=to_moment(session.expires_at),
                )
            )
            self._audit.add(AuditEntry(f"session {session.id}", "sign in", row.role), transaction)
        return session, secret

    def find(self, secret: str) -> Session | None:
        """Return the session with this `secret`, None if there is none or it has expired."""
        query = select(sessions).where(
            sessions.c.hash == digest(secret), sessions.c.expires_at > to_moment(self._now())
        )
        with self._engine.begin() as reader:
            row = reader.execute(query).one_or_none()
        return _session_of(row) if row else None

    def all(self) -> list[Session]:
        """Return the sessions that have not expired, the oldest first."""
        query = select(sessions).where(sessions.c.expires_at > to_moment(self._now()))
        with self._engine.begin() as reader:
            rows = reader.execute(query.order_by(sessions.c.created_at, sessions.c.id))
            return [_session_of(row) for row in rows]

    def end(self, session_id: str, entry: AuditEntry) -> bool:
        """End a session at once. Returns False if there is none with this id."""
        with writing(self._engine) as transaction:
            has_ended = transaction.execute(sessions.delete().where(sessions.c.id == session_id)).rowcount == 1
            if has_ended:
                self._audit.add(entry, transaction)
        return has_ended

    def note_use(self, session: Session) -> None:
        """Record that the session is used now, to ten minutes."""
        now = self._now()
        if session.last_used_at is None or now - session.last_used_at >= _USE_RESOLUTION:
            with writing(self._engine) as transaction:
                used = sessions.update().where(sessions.c.id == session.id)
                transaction.execute(used.values(last_used_at=to_moment(now)))


def _session_of(row: Row[tuple[str, bytes, str, int, int, int]]) -> Session:
    return Session(
        row.id,
        Role(row.role),
        to_datetime(row.created_at),
        to_datetime(row.expires_at),
        None if row.last_used_at is None else to_datetime(row.last_used_at),
    )
