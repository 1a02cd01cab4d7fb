"""From a request to its principal: by key, by session, or by where it comes from."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass

from fastapi import Request

from sluice_agent.log import warn_limited
from sluice_agent.server.access.accounts import Accounts, Key
from sluice_agent.server.access.exposure import Exposure
from sluice_agent.server.access.principal import (
    ANY_KEY,
    COOKIE,
    LOOPBACK,
    READ_HELP,
    UNIDENTIFIED,
    Principal,
    Role,
    key_command,
)
from sluice_agent.server.access.same_origin import is_from_own_page
from sluice_agent.server.access.sessions import Session, Sessions
from sluice_agent.server.errors import Docs, RefusedError
from sluice_agent.server.store import DATABASE_ERRORS, reason_of

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

_SEND_HELP = "Send the header Authorization: Bearer sk_… with an ingest key of this connection"
_MAKE_HELP = f"{key_command(Role.INGEST)} makes one."


@dataclass(frozen=True, slots=True)
class UnmadeKeys:
    """Which keys that were not made may send events on loopback: any, only `api_key`, or none."""

    are_allowed: bool = True
    api_key: str | None = None

    def allow(self, secret: str) -> bool:
        """Return whether the key `secret` is one of them."""
        if not self.are_allowed or self.api_key is None:
            return self.are_allowed
        return hmac.compare_digest(secret.encode("utf-8", "surrogatepass"), self.api_key.encode())


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends events: the id of a made key and of its connection, or None for a key that was not made."""

    key_id: str | None
    connection_id: str | None


class Gate:
    """The one place that decides who sends a request.

    Keys that were not made may send events on loopback: any, or only the one in `unmade`, or none.
    """

    def __init__(self, accounts: Accounts, sessions: Sessions, exposure: Exposure, unmade: UnmadeKeys) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._exposure = exposure
        self._unmade = unmade

    def identify(self, request: Request) -> Principal:
        """Return who sends `request`, to read or to act. A key takes precedence over a session.

        Raises `RefusedError` for a key or a session that can't be used, unless reading needs neither.
        """
        is_exposed = self._is_exposed(request)
        secret = bearer_of(request)
        key = self._accounts.find_key(secret) if secret else None
        if key is not None and key.revoked_at is not None:
            raise _revoked(key.id, key.role)
        if key is not None and (is_exposed or key.role is not Role.INGEST):
            return self._principal_of_key(key)
        if key is None and secret and is_exposed:
            raise RefusedError(401, f"This key is unknown. {READ_HELP}", docs=Docs.API_KEY)
        session = self._session_of(request) if not secret else None
        if session is not None:
            return self._principal_of_session(session, request)
        return UNIDENTIFIED if is_exposed else LOOPBACK

    def identify_client(self, request: Request) -> Principal:
        """Return who sends `request` to the jobs API, where reading needs a key or a session too.

        Where events are accepted with a key that was not made, such a key may do what an operator may. Raises
        `RefusedError` for a key or a session that can't be used.
        """
        secret = bearer_of(request)
        key = self._accounts.find_key(secret) if secret else None
        if key is not None:
            if key.revoked_at is not None:
                raise _revoked(key.id, key.role)
            return self._principal_of_key(key)
        if secret:
            if self._is_exposed(request) or not self._unmade.allow(secret):
                message = f"This key is unknown. {key_command(Role.OPERATOR)} makes one."
                raise RefusedError(401, message, docs=Docs.API_KEY)
            return ANY_KEY
        session = self._session_of(request)
        return UNIDENTIFIED if session is None else self._principal_of_session(session, request)

    def needs_key(self, request: Request) -> bool:
        """Return whether a worker of the jobs API needs a key for `request`: on loopback it does not."""
        return self._is_exposed(request)

    def check_worker(self, request: Request) -> None:
        """Refuse a worker of the jobs API without a key. Its tickets decide what it may start.

        The key is one for programs that work: `ingest`, which the agent of a worker has anyway, or `operator`. It
        blocks. Raises `RefusedError` (401, 403).
        """
        secret = bearer_of(request)
        key = self._accounts.find_key(secret) if secret else None
        if key is None:
            message = f"A worker needs a key: set SLUICE_API_KEY. {_MAKE_HELP}"
            raise RefusedError(401, message, docs=Docs.API_KEY)
        if key.revoked_at is not None:
            raise _revoked(key.id, key.role)
        if key.role is Role.VIEWER:
            message = f"The key {key.id} has the role viewer, and may run no jobs. {_MAKE_HELP}"
            raise RefusedError(403, message, docs=Docs.API_KEY)
        self._note_use(lambda: self._accounts.note_use(key))

    def identify_sender(self, request: Request) -> Sender:
        """Return who sends events by `request`.

        Raises `RefusedError`: 401 for a key that is unknown or revoked, 403 for one of another role.
        """
        secret = bearer_of(request)
        if not secret or not secret.startswith("sk_"):
            raise RefusedError(401, f"{_SEND_HELP}.", docs=Docs.API_KEY)
        key = self._accounts.find_key(secret)
        if key is None:
            if self._is_exposed(request) or not self._unmade.allow(secret):
                raise RefusedError(401, f"This key is unknown. {_SEND_HELP}; {_MAKE_HELP}", docs=Docs.API_KEY)
            return Sender(None, None)
        if key.revoked_at is not None:
            raise _revoked(key.id, key.role)
        if key.role is not Role.INGEST:
            message = f"The key {key.id} has the role {key.role.value} and may not send events. {_MAKE_HELP}"
            raise RefusedError(403, message, docs=Docs.API_KEY)
        self._note_use(lambda: self._accounts.note_use(key))
        return Sender(key.id, key.connection.id)

    def check_connections(self, sender: Sender, ids: Collection[str]) -> None:
        """Raise `RefusedError` (401, 403) if `sender` may not send events of one of the connections `ids`.

        Without a made key, those are the connections that have keys of their own, and new ones beyond a number. A key
        may have been revoked since the request began: a body can take its time.
        """
        if sender.key_id is not None and self._accounts.is_revoked(f"key {sender.key_id}"):
            raise _revoked(sender.key_id, Role.INGEST)
        if sender.connection_id is None:
            keyed, has_room = self._accounts.without_key(ids)
            if keyed:
                message = f"The connection {min(keyed)} takes events with its own keys only. {_SEND_HELP}; {_MAKE_HELP}"
                raise RefusedError(401, message, {"connectionId": "needs a key of its own"}, docs=Docs.API_KEY)
            if not has_room:
                message = f"The server has no room for further connections: use the id of one that it has. {_MAKE_HELP}"
                raise RefusedError(403, message, {"connectionId": "unknown"}, docs=Docs.API_KEY)
        elif any(connection_id != sender.connection_id for connection_id in ids):
            message = (
                f"The key {sender.key_id} belongs to the connection {sender.connection_id}, and an event has another "
                "connectionId: set SLUICE_CONNECTION_ID to that of the key."
            )
            raise RefusedError(401, message, {"connectionId": "not that of the key"}, docs=Docs.API_KEY)

    def _principal_of_key(self, key: Key) -> Principal:
        self._note_use(lambda: self._accounts.note_use(key))
        return Principal(f"key {key.id}", key.role, frozenset((key.connection.number,)), is_made_key=True)

    def _principal_of_session(self, session: Session, request: Request) -> Principal:
        if request.method not in SAFE_METHODS and not is_from_own_page(request):
            message = (
                "With a session, a change must come from a page of this server (Sec-Fetch-Site: same-origin, or its "
                "Origin). "
                f"Programs send the header Authorization: Bearer with a key that {key_command(Role.OPERATOR)} made."
            )
            raise RefusedError(403, message, docs=Docs.AUTH)
        self._note_use(lambda: self._sessions.note_use(session))
        return Principal(f"session {session.id}", session.role)

    def _session_of(self, request: Request) -> Session | None:
        secret = session_secret(request)
        return self._sessions.find(secret) if secret else None

    def _is_exposed(self, request: Request) -> bool:
        return self._exposure.is_exposed(request.scope["http_version"], request.headers)

    def _note_use(self, note: Callable[[], None]) -> None:
        """Record a use. A database that can't be written, such as one on a full disk, can still be read."""
        try:
            note()
        except DATABASE_ERRORS as error:
            warn_limited("use of a key", "Could not record the use of a key or session: %s", reason_of(error))


def bearer_of(request: Request) -> str | None:
    """Return the key in the Authorization header of `request`, None if it has none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def session_secret(request: Request) -> str | None:
    """Return the session's secret in the cookie of `request`, None if it has none."""
    return request.cookies.get(COOKIE)


def _revoked(key_id: str, role: Role) -> RefusedError:
    message = f"The key {key_id} was revoked. {key_command(role)} makes a new one."
    return RefusedError(401, message, docs=Docs.API_KEY)
