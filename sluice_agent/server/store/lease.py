"""A lease: of all processes that use a database, the one that does a work which none else may do at the same time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import Connection, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from sluice_agent.server.store.schema import lease

Writing = Callable[[], AbstractContextManager[Connection]]


class Lease:
    """The lease called `name`, for `holder`. It ends `seconds` after it was last extended, or when it is released.

    Times are those of `now`, in microseconds since 1970: the clocks of the processes must differ by less than half of
    `seconds`.
    """

    def __init__(self, writing: Writing, name: str, holder: str, seconds: float, now: Callable[[], int]) -> None:
        self._writing = writing
        self._name = name
        self._holder = holder
        self._length = int(seconds * 1_000_000)
        self._now = now
        self._next_attempt = 0
        self._is_held = False

    def is_held(self) -> bool:
        """Take the lease if it is free, extend it if a half of it is over, and return whether it is held."""
        now = self._now()
        if not self._next_attempt - self._length <= now < self._next_attempt:  # earlier: the clock was set back
            try:
                with self._writing() as connection:
                    self._is_held = self._take(connection, now)
            except IntegrityError:  # another process has just made the row
                self._is_held = False
            self._next_attempt = now + self._length // 2
        return self._is_held

    def release(self) -> None:
        """End the lease if it is held: another process may take it at once."""
        if self._is_held:
            self._is_held = False
            with self._writing() as connection:
                connection.execute(delete(lease).where(lease.c.name == self._name, lease.c.holder == self._holder))

    def _take(self, connection: Connection, now: int) -> bool:
        values = {"holder": self._holder, "until": now + self._length}
        is_free = or_(lease.c.holder == self._holder, lease.c.until < now)
        if connection.execute(update(lease).where(lease.c.name == self._name, is_free).values(values)).rowcount:
            return True
        if connection.scalar(select(lease.c.name).where(lease.c.name == self._name)) is not None:
            return False
        connection.execute(insert(lease).values(name=self._name, **values))
        return True
