"""Transactions of access on the engine of the store, and the clock's moments as columns hold them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from sqlalchemy import Connection, Engine

Clock = Callable[[], datetime]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Return a connection in a transaction that writes: all or nothing is committed at the end."""
    with engine.connect().execution_options(writing=True) as connection, connection.begin():
        yield connection


def to_microseconds(moment: datetime) -> int:
    """Return `moment` as columns hold it."""
    return (moment - _EPOCH) // _MICROSECOND


def to_datetime(microseconds: int) -> datetime:
    """Return the moment that a column holds, in UTC."""
    return _EPOCH + microseconds * _MICROSECOND
