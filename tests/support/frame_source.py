"""A database with a few connections and no writer: frames are committed as a test asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, insert, select, update
from sqlalchemy.pool import NullPool

from sluice_agent.server.record.frames import Frame
from sluice_agent.server.store import CommittedFrames
from sluice_agent.server.store.schema import connection, frame, metadata

Listener = Callable[[Sequence[CommittedFrames]], None]


class FrameSource:
    """What the stream uses of a store. `commit` writes frames, `announce` calls the listeners as a writer does."""

    def __init__(self, path: Path, epoch: str = "epoch") -> None:
        self.epoch = epoch
        self._engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
        metadata.create_all(self._engine, [connection, frame])
        self._listeners: list[Listener] = []

    def add_connection(self, connection_id: str) -> int:
        """Add a connection, and return its number."""
        with self._engine.begin() as writing:
            row = insert(connection).values(id=connection_id, created_at=0).returning(connection.c.number)
            return int(writing.execute(row).scalar_one())

    def commit(self, number: int, frames: Sequence[Frame]) -> CommittedFrames:
        """Write `frames` at the next positions, and return them."""
        with self._engine.begin() as writing:
            raised = (
                update(connection)
                .where(connection.c.number == number)
                .values(position=connection.c.position + len(frames))
                .returning(connection.c.position, connection.c.id)
            )
            last, connection_id = writing.execute(raised).one()
            first = last - len(frames) + 1
            rows = [
                {"connection": number, "position": position, "event": one.event, "data": one.data}
                for position, one in enumerate(frames, first)
            ]
            writing.execute(insert(frame), rows)
        return CommittedFrames(number, connection_id, first, frames)

    def announce(self, *commits: CommittedFrames) -> None:
        """Pass commits to the listeners."""
        for listener in self._listeners:
            listener(commits)

    def add(self, number: int, frames: Sequence[Frame]) -> None:
        """Commit `frames` and announce them."""
        self.announce(self.commit(number, frames))

    def prune(self, number: int, until: int) -> None:
        """Remove the frames up to a position."""
        with self._engine.begin() as writing:
            writing.execute(frame.delete().where(frame.c.connection == number, frame.c.position <= until))

    def positions(self, number: int) -> list[int]:
        """Return the positions that are stored."""
        with self.reading() as reading:
            return list(reading.execute(select(frame.c.position).where(frame.c.connection == number)).scalars())

    def subscribe(self, listener: Listener) -> None:
        """Add a listener."""
        self._listeners.append(listener)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Return a connection for reads."""
        with self._engine.connect() as reading:
            yield reading


def job_frame(number: int, state: str = "completed") -> Frame:
    """Return a change of a job, with a number by which a test knows it."""
    return Frame("job:state_change", json.dumps({"id": f"job-{number}", "state": state}))
