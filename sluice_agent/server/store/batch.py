"""One transaction: from the events of batches to rows. What changes is decided here and in the two files for jobs and
for samples; a driver has only the SQL.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sluice_agent.server.record.frames import Frame, FrameBlock, JobFrame
from sluice_agent.server.store.driver import Driver, FrameBlockRow
from sluice_agent.server.store.job_events import JobEvents
from sluice_agent.server.store.memory import JOBS, JOBS_BYTES, Memory
from sluice_agent.server.store.samples import Samples
from sluice_agent.server.validation import ReceivedEvent

FRAMES_KEPT = 10_000
"""The latest frames of each connection: what a reader of the stream that comes back may have missed."""

_BLOCK = 1_000  # frames in a row at most: what a reader gets at once


@dataclass(frozen=True, slots=True)
class IngestBatch:
    """The valid events of one request, and the day that they count for; `limit` is of events a day and connection.

    `connection_id` is the key's connection, whose usage is returned; without it, that of the first event.
    """

    events: Sequence[ReceivedEvent]
    day: str
    limit: int | None = None
    connection_id: str | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of a batch, in events: accepted, already known, over the day's limit; and the day's usage after it.

    If nothing was accepted and something was truncated, the limit had been used up before.
    """

    accepted: int
    skipped: int
    truncated: int
    used: int


@dataclass(frozen=True, slots=True)
class CommittedFrames:
    """Frames of one connection, at the positions from `first` on."""

    connection: int
    connection_id: str
    first: int
    frames: FrameBlock

    @property
    def last(self) -> int:
        """The position of the last frame."""
        return self.first + len(self.frames) - 1


class Written(NamedTuple):
    """What a transaction has written: a result for each batch, and the frames."""

    results: list[BatchResult]
    frames: list[CommittedFrames]


class BatchWriter:
    """Writes batches through `driver`, in transactions of the caller. After a rollback the caller calls `forget`.

    What is remembered is limited for `writers` together.
    """

    def __init__(self, driver: Driver, writers: int = 1) -> None:
        self._driver = driver
        self._writers = writers
        self.forget()

    def forget(self) -> None:
        """Discard what is kept in memory: what was rolled back is not in the database."""
        self.memory = Memory(self._driver, JOBS // self._writers, JOBS_BYTES // self._writers)

    def write(self, batches: Sequence[IngestBatch], now: int) -> Written:
        """Write the new events of `batches`, in their order; `now` in microseconds since 1970."""
        events = [event for batch in batches for event in batch.events]
        ids = {event["connectionId"] for event in events}
        ids.update(batch.connection_id for batch in batches if batch.connection_id is not None)
        connections = self.memory.connections(ids, now)
        jobs = JobEvents(self._driver, self.memory, connections, now)
        samples = Samples(self._driver, self.memory, connections, now)
        is_limited = any(batch.limit is not None for batch in batches)
        usage = _Usage(self._driver, [connections[connection_id] for connection_id in ids], locks=is_limited)
        acceptance = _Acceptance(connections, jobs, samples, usage, events)
        results = [acceptance.accept(batch) for batch in batches]
        frames = jobs.put()
        for connection, frame in samples.put():
            frames[connection].append(frame)
        usage.put()  # late: other processes that write for the same connection wait from here on
        committed = self._put_frames(frames, {connections[connection_id]: connection_id for connection_id in ids})
        self.memory.keep(jobs.jobs)
        return Written(results, committed)

    def _put_frames(self, frames: dict[int, list[Frame | JobFrame]], ids: dict[int, str]) -> list[CommittedFrames]:
        blocks = {
            number: [FrameBlock.of(own[start : start + _BLOCK]) for start in range(0, len(own), _BLOCK)]
            for number, own in sorted(frames.items())
        }
        committed: list[CommittedFrames] = []
        counts = {number: sum(map(len, own)) for number, own in blocks.items()}
        for number, last in self._driver.raise_positions(counts).items():  # late: other writers wait from here on
            first = last - counts[number] + 1
            for block in blocks[number]:
                committed.append(CommittedFrames(number, ids[number], first, block))
                first += len(block)
            self._driver.drop_frames(number, last - FRAMES_KEPT)
        self._driver.put_frames(FrameBlockRow(part.connection, part.last, part.frames.body) for part in committed)
        return committed


class _Usage:
    """The events that each connection has sent in a day: before the transaction, and those that it adds.

    `locks`: the counts are compared with a limit, which other processes must not use up at the same time.
    """

    def __init__(self, driver: Driver, connections: Sequence[int], *, locks: bool) -> None:
        self._driver = driver
        self._connections = connections
        self._locks = locks
        self._counts: dict[tuple[int, str], int] = {}
        self._added: defaultdict[tuple[int, str], int] = defaultdict(int)

    def read(self, day: str) -> None:
        """Read the counts of `day`, once."""
        if self._connections and (self._connections[0], day) not in self._counts:
            stored = self._driver.usage(self._connections, day, locks=self._locks)
            self._counts |= {(number, day): stored.get(number, 0) for number in self._connections}

    def count(self, connection: int, day: str) -> int:
        """Return the connection's events on `day`, with those that are added."""
        return self._counts[connection, day] + self._added[connection, day]

    def add(self, connection: int, day: str, events: int) -> None:
        """Add to the count of the connection on `day`."""
        self._added[connection, day] += events

    def put(self) -> None:
        """Write what was added."""
        self._driver.add_usage([(*key, count) for key, count in sorted(self._added.items()) if count])


class _Acceptance:
    """Passes the new ones of `events` on to `jobs` and `samples`, as long as their day has room."""

    def __init__(
        self,
        connections: dict[str, int],
        jobs: JobEvents,
        samples: Samples,
        usage: _Usage,
        events: Sequence[ReceivedEvent],
    ) -> None:
        self._connections = connections
        self._jobs = jobs
        self._samples = samples
        self._usage = usage
        self._loaded_jobs = iter(jobs.load([event for event in events if "job" in event]))
        self._sample_keys = iter(samples.load([event for event in events if "job" not in event]))

    def accept(self, batch: IngestBatch) -> BatchResult:
        """Pass on the events of the next batch."""
        accepted: Counter[str] = Counter()
        skipped = truncated = 0
        self._usage.read(batch.day)
        for event in batch.events:
            connection_id = event["connectionId"]
            has_room = batch.limit is None or self._has_room(batch, connection_id, accepted[connection_id])
            is_new = self._accept_job(event, has_room) if "job" in event else self._accept_sample(event, has_room)
            if not is_new:
                skipped += 1
            elif has_room:
                accepted[connection_id] += 1
            else:
                truncated += 1
        for connection_id, count in accepted.items():
            self._usage.add(self._connections[connection_id], batch.day, count)
        own = batch.connection_id or (batch.events[0]["connectionId"] if batch.events else None)
        used = self._usage.count(self._connections[own], batch.day) if own is not None else 0
        return BatchResult(accepted.total(), skipped, truncated, used)

    def _has_room(self, batch: IngestBatch, connection_id: str, accepted: int) -> bool:
        used = self._usage.count(self._connections[connection_id], batch.day) + accepted
        return batch.limit is None or used < batch.limit

    def _accept_job(self, event: ReceivedEvent, has_room: bool) -> bool:
        """Add the event if it is new and `has_room`. Return whether it is new."""
        job = next(self._loaded_jobs)
        step = self._jobs.new_step(job, event)
        if step is not None and has_room:
            self._jobs.add(job, step)
        return step is not None

    def _accept_sample(self, event: ReceivedEvent, has_room: bool) -> bool:
        key = next(self._sample_keys)
        is_new = self._samples.is_new(key)
        if is_new and has_room:
            self._samples.add(key, event)
        return is_new
