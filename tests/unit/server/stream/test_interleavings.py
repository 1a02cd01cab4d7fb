"""Commits, their announcements, ticks and subscribers in any order: each gets every position once, in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from random import Random
from typing import cast
from uuid import uuid4

import pytest

from sluice_agent.server.store import CommittedFrames, Store
from sluice_agent.server.stream.frame_types import ALL_TYPES
from sluice_agent.server.stream.hub import Hub
from sluice_agent.server.stream.limits import StreamLimits
from sluice_agent.server.stream.replay import StoredConnection, find_connection
from sluice_agent.server.stream.stream_id import id_prefix, stream_id
from sluice_agent.server.stream.subscription import subscribe
from tests.support.examples import examples
from tests.support.frame_source import FrameSource, job_frame

TINY = StreamLimits(tick=0.004, page=3, ring_frames=9, handover_frames=6, subscriber_chunks=3, subscriber_bytes=500)
WEIGHTS = {
    "commit": 8,
    "announce": 8,
    "announce late": 2,
    "lose": 1,
    "run": 24,
    "wait": 3,
    "resume": 6,
    "cut": 3,
    "restart": 1,
}
STEPS = 120


class Client:
    """A subscriber that keeps the positions it has received, and its last id when its connection is cut."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self._reading: asyncio.Task[None] | None = None

    def resume(self, hub: Hub, connection: StoredConnection) -> None:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(hub, connection))

    async def cut(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
            self._reading = None

    async def _read(self, hub: Hub, connection: StoredConnection) -> None:
        last_id = stream_id(id_prefix(hub.epoch, connection.number), self.positions[-1] if self.positions else 0)
        with hub.subscriber(lambda: None) as subscriber:
            chunks = subscribe(hub, connection, ALL_TYPES, last_id, subscriber)
            async with aclosing(chunks):
                async for chunk in chunks:
                    for frame in chunk.decode().split("\n\n"):
                        assert "stream:reset" not in frame
                        if "event: job" in frame:
                            self.positions.append(int(frame.partition("\n")[0].rpartition("-")[2]))
                    await asyncio.sleep(0)  # as while the socket's buffer is full


class Process:
    """A process with a hub, which learns of each commit in its own order, or not at all."""

    def __init__(self, path: Path, limits: StreamLimits = TINY) -> None:
        self.source = FrameSource(path)
        self.unannounced: list[CommittedFrames] = []
        self.hub = Hub(cast("Store", self.source), lambda: datetime.now(timezone.utc), limits)
        self.hub.start()

    def announce(self, index: int) -> None:
        if self.unannounced:
            self.source.announce(self.unannounced.pop(index % len(self.unannounced)))

    def lose(self) -> None:
        if self.unannounced:
            self.unannounced.pop()


class Scenario:
    """Two processes on one database, and two subscribers that are cut and resume with either."""

    def __init__(self, path: Path, random: Random) -> None:
        self.path = path
        self.random = random
        self.source = FrameSource(path)
        self.id = str(uuid4())
        self.number = self.source.add_connection(self.id)
        self.last = 0
        self.processes = [Process(path), Process(path)]
        self.clients = [Client(), Client()]

    async def step(self, action: str) -> None:
        process, client = self.random.choice(self.processes), self.random.choice(self.clients)
        actions: dict[str, Callable[[], Awaitable[None] | None]] = {
            "commit": lambda: self.commit(self.random.randrange(1, 8)),
            "announce": lambda: process.announce(0),
            "announce late": lambda: process.announce(self.random.randrange(8)),
            "lose": process.lose,
            "run": lambda: asyncio.sleep(0),
            "wait": lambda: asyncio.sleep(TINY.tick),
            "resume": lambda: client.resume(process.hub, self.connection()),
            "cut": client.cut,
            "restart": lambda: self.restart(process),
        }
        awaitable = actions[action]()
        if awaitable is not None:
            await awaitable

    async def restart(self, process: Process) -> None:
        process.hub.close()
        for client in self.clients:
            await client.cut()
        self.processes.remove(process)
        self.processes.append(Process(self.path))

    def commit(self, number: int) -> None:
        commit = self.source.commit(self.number, [job_frame(self.last + index) for index in range(1, number + 1)])
        self.last += number
        for process in self.processes:
            process.unannounced.append(commit)

    def connection(self) -> StoredConnection:
        with self.source.reading() as reading:
            found = find_connection(reading, self.id)
        assert found is not None
        return found

    async def end(self) -> None:
        """Announce one more commit, and wait until the subscribers have everything."""
        self.commit(1)
        for process in self.processes:
            process.announce(-1)
        deadline = time.monotonic() + 20
        while any(len(client.positions) < self.last for client in self.clients) and time.monotonic() < deadline:
            for client in self.clients:
                client.resume(self.processes[0].hub, self.connection())
            await asyncio.sleep(TINY.tick)
        for client in self.clients:
            await client.cut()
        for process in self.processes:
            process.hub.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stream") / "frames.db"


@pytest.mark.parametrize("seed", range(examples(80)))
def test_every_position_arrives_once_and_in_order(path: Path, seed: int) -> None:
    """Between what a subscriber missed and what is live a state could be lost for good, or be shown twice."""
    random = Random(seed)

    async def run() -> Scenario:
        scenario = Scenario(path, random)
        for action in random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=STEPS):
            await scenario.step(action)
        await scenario.end()
        return scenario

    scenario = asyncio.run(run())
    assert [client.positions for client in scenario.clients] == [list(range(1, scenario.last + 1))] * 2


def test_a_subscriber_that_is_ahead_of_a_process_gets_nothing_twice(path: Path) -> None:
    """Behind a balancer a page would count a job twice when its next process is a little behind the last one."""

    async def run() -> Scenario:
        scenario = Scenario(path, Random(0))
        process = scenario.processes[0] = Process(path, replace(TINY, tick=0.2))
        live, ahead = scenario.clients
        live.resume(process.hub, scenario.connection())
        scenario.commit(3)
        process.announce(0)
        while len(live.positions) < 3:
            await asyncio.sleep(0)
        scenario.commit(4)  # which this process does not learn before the next tick
        ahead.positions = list(range(1, 8))  # the other process has sent them
        ahead.resume(process.hub, scenario.connection())
        while len(live.positions) < 7:
            await asyncio.sleep(0)
        await scenario.end()
        return scenario

    scenario = asyncio.run(run())
    assert [client.positions for client in scenario.clients] == [list(range(1, scenario.last + 1))] * 2
