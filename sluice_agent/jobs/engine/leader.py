"""Which of several servers runs the engine: the one that has the lease. A claim locks it: no other claims meanwhile."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, select

from sluice_agent.jobs.store.schema import lease
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.store.lease import Lease

_NAME = "jobs engine"


class Leader:
    """The lease for this process, which ends `seconds` after it was last extended. A SQLite file has one server."""

    def __init__(self, store: JobsStore, seconds: float) -> None:
        self._holder = secrets.token_hex(16)
        self._is_alone = not store.is_shared
        self._lease = Lease(store.writing, _NAME, self._holder, seconds, lambda: store.moment)

    def is_held(self) -> bool:
        """Take the lease if it is free, extend it if it is time, and return whether it is held."""
        return self._is_alone or self._lease.is_held()

    def lock(self, writer: Connection) -> bool:
        """Keep the lease until the end of a transaction, and return whether it is still held."""
        return self._is_alone or writer.scalar(_LOCK) == self._holder

    def release(self) -> None:
        """End the lease if it is held."""
        if not self._is_alone:
            self._lease.release()


_LOCK = select(lease.c.holder).where(lease.c.name == _NAME).with_for_update()
