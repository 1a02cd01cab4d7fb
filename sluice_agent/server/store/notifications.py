"""The frames that any process commits, in the order of their positions: PostgreSQL notifies of each commit.

One thread passes them on, those of this process too: only the database knows the order of commits. A look at the
positions each second covers notifications that were lost with their connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any

import psycopg

from sluice_agent.log import log_failure, warn_limited
from sluice_agent.server.record.frames import FrameBlock
from sluice_agent.server.store.batch import CommittedFrames
from sluice_agent.server.store.database import reason_of
from sluice_agent.server.store.postgresql import CHANNEL

_log = logging.getLogger("sluice_agent.server")

_POLL = 1.0  # seconds between two looks at the positions; also until the next attempt to connect
_WAKE = 0.2  # seconds after which the thread sees that it is to end
_OWN_FRAMES = 20_000  # of this process that are kept, so that they need not be read
_READ_AT_ONCE = 100  # blocks

_POSITIONS = "SELECT number, id, position FROM connection"
_FRAMES = "SELECT last, body FROM frame_block WHERE connection = %s AND last > %s AND last <= %s ORDER BY last LIMIT %s"


class Notifications:
    """The thread that calls `deliver` with what is committed from now on. `connect` makes a connection."""

    def __init__(
        self, connect: Callable[[], psycopg.Connection[Any]], deliver: Callable[[Sequence[CommittedFrames]], None]
    ) -> None:
        self._connect = connect
        self._deliver = deliver
        self._own = _OwnFrames()
        self._ids: dict[int, str] = {}
        self._delivered: dict[int, int] = {}
        with connect() as connection:
            for number, _, position in connection.execute(_POSITIONS):
                self._delivered[number] = position
        self._closing = Event()
        self._thread = Thread(target=self._run, name="store notifications", daemon=True)
        self._thread.start()

    def keep(self, committed: Sequence[CommittedFrames]) -> None:
        """Keep frames that this process has committed, until they are delivered."""
        self._own.add(committed)

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with self._connect() as listening, self._connect() as reading:
                    listening.execute(f"LISTEN {CHANNEL}".encode())
                    self._follow(listening, reading)
            except psycopg.Error as error:
                warn_limited(
                    "notifications", "No notifications from PostgreSQL (%s): connecting again", reason_of(error)
                )
                self._closing.wait(_POLL)
            except Exception as error:  # noqa: BLE001 - whatever a listener raises, the streams must not stand still
                log_failure(error, "Could not pass on what was committed: trying again")
                self._closing.wait(_POLL)

    def _follow(self, listening: psycopg.Connection[Any], reading: psycopg.Connection[Any]) -> None:
        next_poll = monotonic()
        while not self._closing.is_set():
            if monotonic() >= next_poll:
                self._deliver_all(reading)
                next_poll = monotonic() + _POLL
            for notification in listening.notifies(timeout=_WAKE, stop_after=1):
                for number, last in _ranges_in(notification.payload):
                    self._deliver_up_to(reading, number, last)

    def _deliver_all(self, reading: psycopg.Connection[Any]) -> None:
        for number, connection_id, position in reading.execute(_POSITIONS).fetchall():
            self._ids[number] = connection_id
            self._deliver_up_to(reading, number, position)

    def _deliver_up_to(self, reading: psycopg.Connection[Any], number: int, last: int) -> None:
        """Deliver the frames of a connection up to the position `last`. Those that are already deleted are left out."""
        delivered = self._delivered.get(number, 0)
        while delivered < last and not self._closing.is_set():
            own = self._own.take(number, delivered + 1)
            parts = [own] if own is not None else list(self._read(reading, number, delivered, last))
            if parts:
                self._deliver(parts)
            delivered = parts[-1].last if parts else last
            self._delivered[number] = delivered

    def _read(self, reading: psycopg.Connection[Any], number: int, after: int, last: int) -> Iterator[CommittedFrames]:
        """Read the blocks of frames after a position, which is the last of one."""
        if number not in self._ids:
            self._ids |= {known: connection_id for known, connection_id, _ in reading.execute(_POSITIONS)}
        for end, body in reading.execute(_FRAMES, (number, after, last, _READ_AT_ONCE)):
            frames = FrameBlock(body)
            yield CommittedFrames(number, self._ids[number], end - len(frames) + 1, frames)


class _OwnFrames:
    """The frames of this process that are not delivered yet. If there are too many, the oldest must be read."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._parts: dict[tuple[int, int], CommittedFrames] = {}
        self._size = 0

    def add(self, committed: Iterable[CommittedFrames]) -> None:
        with self._lock:
            for part in committed:
                self._parts[part.connection, part.first] = part
                self._size += len(part.frames)
            while self._size > _OWN_FRAMES:
                oldest = next(iter(self._parts))
                self._size -= len(self._parts.pop(oldest).frames)

    def take(self, connection: int, first: int) -> CommittedFrames | None:
        """Return the frames from the position `first` on, if they are here."""
        with self._lock:
            part = self._parts.pop((connection, first), None)
            self._size -= len(part.frames) if part is not None else 0
            return part


def _ranges_in(payload: str) -> Iterator[tuple[int, int]]:
    """Yield the connections in a notification, and the last position of each."""
    for part in payload.split():
        number, _, last = part.split(":")
        yield int(number), int(last)
