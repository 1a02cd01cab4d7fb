"""What `batch` and `retention` need of a database. A driver has the SQL of one dialect, and no decision.

All methods are called in the writer's thread, inside a transaction, but `close`. Rows are tuples in the
order of their table's columns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol

from sluice_agent.server.store.steps import StoredStep


class JobRow(NamedTuple):
    """A row of `job`."""

    number: int
    uuid: bytes
    connection: int
    external_id: str
    framework: int
    name: int
    queue: int | None
    worker: int | None
    error_class: int | None
    state: int
    attempt: int
    created_at: int
    changed_at: int
    started_at: int | None
    completed_at: int | None
    scheduled_for: int | None
    duration_ms: int | None
    error: str | None
    root_id: str | None
    group_id: str | None
    fold: bytes | None
    error_location: int | None
    parent: bytes | None
    expires_at: int | None


def known_columns(rows: Sequence[Sequence[Any]]) -> list[int]:
    """Return the columns that are not null in each of `rows`: to pass None costs a driver more than a number."""
    return [index for index, column in enumerate(zip(*rows, strict=True)) if column.count(None) < len(rows)]


class StoredJob(NamedTuple):
    """What the database has of a job. `version` is another one after each transaction that adds steps to the job."""

    number: int
    uuid: bytes
    version: int
    fold: bytes | None


class WorkerRow(NamedTuple):
    """A row of `worker`."""

    connection: int
    worker: int
    at: int
    first_seen: int
    last_heartbeat: int | None
    state: int
    state_at: int | None
    active_jobs: int | None
    framework: int
    body: bytes


class QueueRow(NamedTuple):
    """A row of `queue`."""

    connection: int
    queue: int
    at: int
    first_seen: int
    depth: int | None
    consumers: int | None
    framework: int


class SeriesRow(NamedTuple):
    """A row of `series`."""

    connection: int
    label: int
    at: int
    key: bytes
    depth: int | None
    consumers: int | None
    load: float | None


class FrameBlockRow(NamedTuple):
    """A row of `frame_block`."""

    connection: int
    last: int
    body: bytes


class StepPartRow(NamedTuple):
    """A row of `step_part`."""

    job: int
    start: int
    states: int
    snapshot: bytes
    keys: bytes


class OldJob(NamedTuple):
    """A job that may be deleted."""

    number: int
    uuid: bytes
    connection: int
    state: int
    created_at: int


Label = tuple[int, str]
"""The kind of a label, and its text."""


RollupKey = tuple[int, int, int, int, int, int, int]
"""Connection, minutes, start, name, queue, measure and bucket."""


class UnavailableError(Exception):
    """The database can't be used now: its disk is full, another program locks it, or its file is gone. Nothing was
    written."""


class ConflictError(Exception):
    """Another process has written the same rows. Nothing was written: the transaction can be repeated at once."""


class Driver(Protocol):
    """One connection to the database, for writing."""

    owns_database: bool
    """True if no other process writes jobs: then a job that is in memory is as the database has it."""

    first_jobs: int
    """The jobs of a transaction whose rows are written first, together; then twice as many each time."""

    def transaction(self, *, excludes_others: bool = False) -> AbstractContextManager[None]:
        """Return a block that is committed as a whole, or rolled back as a whole if it raises. `excludes_others`: those
        of other processes wait until it ends."""

    def close(self) -> None:
        """Close the connection."""

    def connections(self, ids: Sequence[str], now: int) -> dict[str, int]:
        """Return the numbers of connections by their ids; those that are missing are made, at `now` microseconds."""

    def labels(self, labels: Collection[Label]) -> dict[Label, int]:
        """Return the numbers of labels; those that are missing are made."""

    def texts(self, numbers: Collection[int]) -> dict[int, str]:
        """Return the texts of labels by their numbers."""

    def usage(self, connections: Collection[int], day: str, *, locks: bool) -> dict[int, int]:
        """Return the events that each connection has sent on `day`; a connection without any may be missing. `locks`:
        no other process adds to the counts until the commit."""

    def add_usage(self, rows: Iterable[tuple[int, str, int]]) -> None:
        """Add to the counts of (connection, day)."""

    def version(self) -> int:
        """Return the version that jobs have to which the transaction adds steps."""

    def jobs(self, uuids: Sequence[bytes]) -> list[StoredJob]:
        """Return those of the jobs that exist, locked against other writers until the commit."""

    def new_jobs(self, count: int) -> Sequence[int]:
        """Return numbers for `count` new jobs."""

    def step_keys(self, jobs: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return (job, key) of all steps of the jobs."""

    def steps_of(self, jobs: Sequence[int]) -> list[StoredStep]:
        """Return all steps of the jobs."""

    def steps_with(self, job: int, keys: Sequence[bytes]) -> list[StoredStep]:
        """Return the steps of a job with these keys."""

    def last_parts(self, jobs: Sequence[int]) -> list[StepPartRow]:
        """Return the last part of the steps of each of the jobs that have parts."""

    def put_parts(self, rows: Sequence[StepPartRow]) -> None:
        """Add parts of steps. One that exists is overwritten."""

    def insert_steps(self, steps: Sequence[StoredStep]) -> None:
        """Add steps that do not exist."""

    def put_steps(self, steps: Sequence[StoredStep]) -> None:
        """Add steps. One that exists is overwritten."""

    def insert_jobs(self, rows: Sequence[JobRow]) -> None:
        """Add the rows of new jobs."""

    def update_jobs(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Overwrite `columns` of jobs. Each row has the job's number, and their values."""

    def put_future_jobs(self, rows: Iterable[tuple[int, int]]) -> None:
        """Add rows (job, moment of receipt) of jobs of the future, or overwrite them."""

    def add_tallies(self, counts: Mapping[tuple[int, int], int]) -> None:
        """Add to the numbers of jobs by (connection, state)."""

    def add_rollups(self, counts: Mapping[RollupKey, int]) -> None:
        """Add to counts of `rollup`."""

    def count_rollup_changes(self, hours: Iterable[tuple[int, int]]) -> None:
        """Count a change of the counts of each (connection, start of an hour)."""

    def add_worker_rollups(self, counts: Mapping[tuple[int, int, int], tuple[int, int]]) -> None:
        """Add to the counts (completed, failed) of (connection, start, worker)."""

    def raise_positions(self, counts: Mapping[int, int]) -> dict[int, int]:
        """Add to the positions of connections, in the order of their numbers, and return them as they are then."""

    def put_frames(self, rows: Iterable[FrameBlockRow]) -> None:
        """Add frames."""

    def drop_frames(self, connection: int, up_to: int) -> None:
        """Delete the blocks of a connection that end up to a position."""

    def known_series(self, keys: Sequence[tuple[int, int, int, bytes]]) -> set[tuple[int, int, int, bytes]]:
        """Return those of the rows (connection, label, at, key) of `series` that exist."""

    def put_series(self, rows: Iterable[SeriesRow]) -> None:
        """Add rows of `series` that do not exist."""

    def workers(self, keys: Sequence[tuple[int, int]]) -> list[WorkerRow]:
        """Return the rows of the workers (connection, label) that exist."""

    def put_workers(self, rows: Iterable[WorkerRow]) -> None:
        """Add rows of workers, or overwrite them."""

    def queues(self, keys: Sequence[tuple[int, int]]) -> list[QueueRow]:
        """Return the rows of the queues (connection, label) that exist."""

    def put_queues(self, rows: Iterable[QueueRow]) -> None:
        """Add rows of queues, or overwrite them."""


class UpkeepDriver(Protocol):
    """What `retention` needs of a database. All but `transaction` and `used_bytes` is called inside a transaction."""

    def transaction(self) -> AbstractContextManager[None]:
        """Return a block that is committed as a whole, or rolled back as a whole if it raises."""

    def used_bytes(self) -> int:
        """Return the size of the database without its free space."""

    def release_space(self) -> None:
        """Give a part of the free space back to the file system, if there is much of it."""

    def all_connections(self) -> list[int]:
        """Return the numbers of all connections."""

    def oldest_jobs(self, connection: int, state: int, changed_before: int, limit: int) -> list[OldJob]:
        """Return the first created jobs of a connection in a state, without those that have changed since a moment."""

    def old_future_jobs(self, states: Sequence[int], received_before: int, future: int, limit: int) -> list[OldJob]:
        """Return the first received jobs of the future in `states` whose latest event arrived before a moment, without
        those that were created or changed since, up to `future`."""

    def delete_jobs(self, numbers: Sequence[int]) -> None:
        """Delete jobs with their steps."""

    def add_tallies(self, counts: Mapping[tuple[int, int], int]) -> None:
        """Add to the numbers of jobs by (connection, state)."""

    def next_to_thin(self) -> int:
        """Return the moment of the first point that is not thinned."""

    def thin_series(self, start: int, end: int, interval: int) -> None:
        """Leave in each series one point an interval from `start` to `end`, before which all is thinned then."""

    def delete_rollups(self, minutes: int, before: int) -> None:
        """Delete the counts of intervals of `minutes` that begin before a minute since 1970."""

    def delete_rollup_changes(self, before: int) -> None:
        """Delete the numbers of changes of hours that begin before a minute since 1970."""

    def delete_worker_rollups(self, before: int) -> None:
        """Delete the counts of workers before a minute since 1970."""

    def delete_leases(self, before: int) -> None:
        """Delete leases that ended before a moment."""

    def delete_usage(self, before: str) -> None:
        """Delete the usage of days before one."""

    def delete_samples(self, before: int) -> None:
        """Delete the points of series before a moment, and the workers and queues whose latest event is older."""


class StoreDriver(Driver, UpkeepDriver, Protocol):
    """All that the store needs of a database."""
