"""The fan-out: takes committed frames from the store, and gives them to the subscribers once in a tick."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from starlette.concurrency import run_in_threadpool

from sluice_agent.log import warn_limited
from sluice_agent.server.store import DATABASE_ERRORS, CommittedFrames, Store, reason_of
from sluice_agent.server.stream.feed import Feed
from sluice_agent.server.stream.handover import Handover, Missing
from sluice_agent.server.stream.limits import STREAM_LIMITS, StreamLimits
from sluice_agent.server.stream.replay import StoredConnection, read_frames
from sluice_agent.server.stream.ring import Ring
from sluice_agent.server.stream.spans import Span
from sluice_agent.server.stream.subscriber import Subscriber

_CONCURRENT_READS = 4  # of the database: a crowd of resuming subscribers leaves threads to the other requests
_SWEEPS = 10  # in the time that a send may take


class Hub:
    """The feeds of all connections. All but the store's listener runs in the event loop, from `start` to `close`."""

    def __init__(self, store: Store, now: Callable[[], datetime], limits: StreamLimits = STREAM_LIMITS) -> None:
        self.epoch = store.epoch
        self.limits = limits
        self._store = store
        self._now = now
        self._feeds: dict[int, Feed] = {}
        self._ring = Ring(limits.ring_frames, limits.ring_bytes)
        self._subscribers: set[Subscriber] = set()
        self._unpublished: set[Feed] = set()
        self._last_tick = 0.0
        self._tick: asyncio.TimerHandle | None = None
        self._timers: list[asyncio.Task[None]] = []

    @property
    def open_streams(self) -> int:
        """The number of subscribers."""
        return len(self._subscribers)

    def start(self) -> None:
        """Subscribe to the store, and start the timers, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._reads = asyncio.Semaphore(_CONCURRENT_READS)
        self._handover = Handover(self._loop, self._receive, self.limits.handover_frames)
        self._store.subscribe(self._handover.put)
        self._timers = [self._loop.create_task(self._beat()), self._loop.create_task(self._sweep())]

    def close(self) -> None:
        """End every stream, and receive no more."""
        self._handover.close()
        if self._tick is not None:
            self._tick.cancel()
        for task in (*self._timers, *(feed.catching_up for feed in self._feeds.values())):
            if task is not None:
                task.cancel()
        for subscriber in self._subscribers:
            subscriber.end()

    @contextmanager
    def subscriber(self, abort: Callable[[], None]) -> Iterator[Subscriber]:
        """Return a new subscriber, which is cut off by `abort` if it does not read."""
        subscriber = Subscriber(self.limits, abort)
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)

    def feed_of(self, connection: StoredConnection) -> Feed:
        """Return the feed of a connection."""
        return self._feed(connection.number, connection.position)

    async def read(self, feed: Feed, after: int, limit: int) -> Span | None:
        """Return frames from the database."""

        def read() -> Span | None:
            with self._store.reading() as reading:
                return read_frames(reading, feed.number, after, limit)

        async with self._reads:
            return await run_in_threadpool(read)

    async def catch_up(self, feed: Feed, position: int) -> None:
        """Return when everything up to `position`, which is in the database, has arrived at `feed`."""
        if feed.received < position:
            await asyncio.shield(self._start_to_catch_up(feed, position))

    def _feed(self, number: int, received: int) -> Feed:
        feed = self._feeds.get(number)
        if feed is None:
            feed = self._feeds[number] = Feed(number, self.epoch, received)
        return feed

    def _receive(self, commits: Sequence[CommittedFrames], missing: Missing) -> None:
        for commit in commits:
            feed = self._feed(commit.connection, commit.first - 1)
            self._arrive(feed, Span(commit.first, commit.frames))
        for number, position in missing.items():
            self._miss(self._feed(number, position), position)

    def _arrive(self, feed: Feed, span: Span) -> None:
        """Add what is new in `span` to `feed`. If frames before it are missing, they are read from the database."""
        if span.first > feed.received + 1:
            self._miss(feed, span.last if feed.has_subscribers else span.first - 1)
        span = span.after(feed.received)
        if span.frames and span.first == feed.received + 1:
            feed.add(span)
            self._ring.add(feed.recent, span)
            if feed.has_subscribers:
                self._unpublished.add(feed)
                self._schedule_tick()

    def _miss(self, feed: Feed, position: int) -> None:
        """Note that frames up to `position` did not arrive: subscribers get them from the database, in their order."""
        if feed.has_subscribers:
            self._start_to_catch_up(feed, position)
        elif position > feed.received:
            feed.skip_to(position)

    def _start_to_catch_up(self, feed: Feed, position: int) -> asyncio.Task[None]:
        feed.known = max(feed.known, position)
        if feed.catching_up is None or feed.catching_up.done():
            feed.catching_up = self._loop.create_task(self._catch_up(feed))
        return feed.catching_up

    async def _catch_up(self, feed: Feed) -> None:
        while feed.received < feed.known:
            try:
                span = await self.read(feed, feed.received, self.limits.page)
            except DATABASE_ERRORS as error:
                warn_limited(
                    "stream", "The stream can't read frames (%s): its subscribers must resume", reason_of(error)
                )
                span = None
            if span is None:
                feed.skip_to(feed.known)
                return
            if span.first > feed.received + 1:
                feed.skip_to(span.first - 1)
            self._arrive(feed, span)

    def _schedule_tick(self) -> None:
        if self._tick is None:
            self._tick = self._loop.call_at(self._last_tick + self.limits.tick, self._publish)

    def _publish(self) -> None:
        self._tick = None
        self._last_tick = self._loop.time()
        feeds, self._unpublished = self._unpublished, set()
        for feed in feeds:
            feed.publish()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.limits.heartbeat)
            now = self._now()
            for feed in self._feeds.values():
                feed.beat(now)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.limits.send / _SWEEPS)
            now = self._loop.time()
            for subscriber in self._subscribers:
                subscriber.cut_off_if_stuck(now)
