"""What a store needs beside its drivers where several processes use one database: PostgreSQL's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from sluice_agent.server.store.batch import CommittedFrames
from sluice_agent.server.store.database import DATABASE_ERRORS, reason_of
from sluice_agent.server.store.lease import Lease
from sluice_agent.server.store.notifications import Notifications
from sluice_agent.server.store.postgresql import PostgresqlDriver
from sluice_agent.server.store.postgresql_database import connect_postgresql

_log = logging.getLogger("sluice_agent.server")

_UPKEEP = "upkeep"
_WRITERS = 2  # one prepares rows while PostgreSQL works on those of the other
_LEASE = 60.0  # seconds: if the process that does the upkeep dies, another one does it after that


class Processes:
    """This process among those that use the database at `address`: its drivers, and the lease of the upkeep.

    `lease` makes a lease of a name and seconds. `deliver` is called with what any of them commits.
    """

    def __init__(
        self,
        address: str,
        lease: Callable[[str, float], Lease],
        deliver: Callable[[Sequence[CommittedFrames]], None],
    ) -> None:
        connect = partial(connect_postgresql, address)
        self.drivers = [PostgresqlDriver(connect) for _ in range(_WRITERS)]
        self._lease = lease(_UPKEEP, _LEASE)
        self._notifications = Notifications(connect, deliver)

    def keep(self, committed: Sequence[CommittedFrames]) -> None:
        """Keep frames that this process has committed, until they are delivered in their turn."""
        self._notifications.keep(committed)

    def may_maintain(self) -> bool:
        """Return whether the upkeep is this process's."""
        return self._lease.is_held()

    def close(self) -> None:
        """End the lease, and deliver no more."""
        try:
            self._lease.release()
        except DATABASE_ERRORS as error:  # it ends by itself
            _log.warning("The lease of the upkeep could not be released: %s", reason_of(error))
        self._notifications.close()
