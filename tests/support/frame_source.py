"""A database with a few connections and no writer: frames are committed as a test asks for them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, insert, update
from sqlalchemy.pool import NullPool

from sluice_agent.server.record.frames import Frame, FrameBlock
from sluice_agent.server.store import CommittedFrames
from sluice_agent.server.store.schema import connection, frame_block, metadata

Listener = Callable[[Sequence[CommittedFrames]], None]


class FrameSource:
    """What the stream uses of a store. `commit` writes frames, `announce` calls the listeners as a writer does."""

    def __init__(self, path: Path, epoch: str = "epoch") -> None:
        self.epoch = epoch
        self._engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
        metadata.create_all(self._engine, [connection, frame_block])
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
            block = FrameBlock.of(frames)
            writing.execute(insert(frame_block).values(connection=number, last=last, body=block.body))
        return CommittedFrames(number, connection_id, last - len(block) + 1, block)

    def announce(self, *commits: CommittedFrames) -> None:
        """Pass commits to the listeners."""
        for listener in self._listeners:
            listener(commits)

    def add(self, number: int, frames: Sequence[Frame]) -> None:
        """Commit `frames` and announce them."""
        self.announce(self.commit(number, frames))

    def prune(self, number: int, until: int) -> None:
        """Remove the commits that end up to a position."""
        with self._engine.begin() as writing:
            writing.execute(frame_block.delete().where(frame_block.c.connection == number, frame_block.c.last <= until))

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
