"""The SQL of the writer on SQLite, on the driver itself: `sqlite3`.

This process alone writes jobs to the file, which a lock beside the file ensures; small writes of other programs, such
as a new key, go through the database's lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import Any

from sluice_agent.server.store.checkpoints import Checkpoints
from sluice_agent.server.store.database import AWAY
from sluice_agent.server.store.driver import (
    FrameBlockRow,
    JobRow,
    Label,
    OldJob,
    QueueRow,
    RollupKey,
    SeriesRow,
    StepPartRow,
    StoredJob,
    UnavailableError,
    WorkerRow,
    known_columns,
)
from sluice_agent.server.store.steps import StoredStep

_CACHE = 6_144  # KiB of pages that the writer keeps in memory; the system keeps more of the file
_LONGEST_LOG = 7_500  # pages, after which a commit moves them into the file: what `Checkpoints` does before
_LOG_LIMIT = 64_000_000  # bytes that the log keeps after that
_MAX_VALUES = 500  # in one list of a statement
_ROWS = (100, 20, 5, 1)  # that one statement has: a prepared statement is kept for each
_FREE_PAGES = 100  # that are left for new rows at least
_RELEASED_PAGES = 1_000  # at a time
_NEVER = 2**62  # a moment after all others
_VERSION = 0  # of all jobs


@cache
def _placeholders(row: int, count: int = 1) -> str:
    return ", ".join([f"({', '.join('?' * row)})"] * count)


_SERIES = "SELECT connection, worker AS label FROM worker UNION ALL SELECT connection, queue FROM queue"
_OLDEST_JOBS = (
    "SELECT number, uuid, connection, state, created_at FROM job INDEXED BY job_by_state"
    " WHERE connection = ? AND state = ? AND created_at < ? AND changed_at < ? ORDER BY created_at LIMIT ?"
)
_OLD_FUTURE_JOBS = (
    "SELECT number, uuid, connection, state, created_at FROM future_job CROSS JOIN job ON number = future_job.job"
    " WHERE received_at < ? AND state IN ({})"
    " AND created_at NOT BETWEEN ? AND ? AND changed_at NOT BETWEEN ? AND ? ORDER BY received_at LIMIT ?"
)
_THIN_SERIES = (
    "DELETE FROM series WHERE connection = ? AND label = ? AND at >= ? AND at < ? AND EXISTS ("
    " SELECT 1 FROM series AS later WHERE later.connection = series.connection AND later.label = series.label"
    " AND later.at > series.at AND later.at < (series.at / ? + 1) * ?)"
)
_RAISE_POSITION = "UPDATE connection SET position = position + ? WHERE number = ? RETURNING position"


class SqliteDriver:
    """The writer's connection to a SQLite file. `checkpoints` are of the same connection; without them SQLite moves its
    log at some of the commits. `turn` returns a block in which no other thread writes."""

    owns_database = True
    first_jobs = 5_000  # statements of many rows are cheaper, and the writer waits for each

    def __init__(
        self,
        connection: sqlite3.Connection,
        checkpoints: Checkpoints | None = None,
        turn: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._connection = connection
        self._turn = turn
        self._checkpoints = checkpoints
        for pragma in (
            f"cache_size = -{_CACHE}",
            f"wal_autocheckpoint = {_LONGEST_LOG}",
            f"journal_size_limit = {_LOG_LIMIT}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @contextmanager
    def transaction(self, *, excludes_others: bool = False) -> Iterator[None]:  # noqa: ARG002 - it always does
        """Return a block that is committed as a whole, or rolled back as a whole if it raises."""
        with self._turn():
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
            except BaseException as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and str(error).startswith(AWAY):
                    raise UnavailableError(str(error)) from error
                raise
        if self._checkpoints is not None:
            self._checkpoints.after_commit()

    def close(self) -> None:
        """Close the connection. All commits are in the file."""
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._connection.close()

    def connections(self, ids: Sequence[str], now: int) -> dict[str, int]:
        """Return the numbers of connections by their ids; those that are missing are made, at `now` microseconds."""
        self._connection.executemany(
            "INSERT INTO connection (id, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING", ((id_, now) for id_ in ids)
        )
        return dict(self._select("SELECT id, number FROM connection WHERE id IN", [(id_,) for id_ in ids]))

    def labels(self, labels: Collection[Label]) -> dict[Label, int]:
        """Return the numbers of labels; those that are missing are made."""
        self._connection.executemany("INSERT INTO label (kind, text) VALUES (?, ?) ON CONFLICT DO NOTHING", labels)
        rows = self._select("SELECT kind, text, number FROM label WHERE (kind, text) IN", list(labels))
        return {(kind, text): number for kind, text, number in rows}

    def texts(self, numbers: Collection[int]) -> dict[int, str]:
        """Return the texts of labels by their numbers."""
        return dict(self._select("SELECT number, text FROM label WHERE number IN", [(number,) for number in numbers]))

    def usage(self, connections: Collection[int], day: str, *, locks: bool) -> dict[int, int]:  # noqa: ARG002
        """Return the events that each connection has sent on `day`; a connection without any may be missing."""
        keys = [(connection, day) for connection in connections]
        return dict(self._select("SELECT connection, events FROM usage WHERE (connection, day) IN", keys))

    def add_usage(self, rows: Iterable[tuple[int, str, int]]) -> None:
        """Add to the counts of (connection, day)."""
        self._add("usage", list(rows), "events = events + excluded.events")

    def version(self) -> int:
        """Return the same version always: no other process changes jobs."""
        return _VERSION

    def jobs(self, uuids: Sequence[bytes]) -> list[StoredJob]:
        """Return those of the jobs that exist."""
        rows = self._select("SELECT number, uuid, fold FROM job WHERE uuid IN", [(uuid,) for uuid in uuids])
        return [StoredJob(number, uuid, _VERSION, fold) for number, uuid, fold in rows]

    def new_jobs(self, count: int) -> Sequence[int]:
        """Return numbers for `count` new jobs."""
        (last,) = self._connection.execute("SELECT coalesce(max(number), 0) FROM job").fetchone()
        return range(last + 1, last + 1 + count)

    def step_keys(self, jobs: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return (job, key) of all steps of the jobs."""
        return list(self._select("SELECT job, key FROM step WHERE job IN", [(job,) for job in jobs]))

    def steps_of(self, jobs: Sequence[int]) -> list[StoredStep]:
        """Return all steps of the jobs."""
        rows = self._select("SELECT job, key, name, body FROM step WHERE job IN", [(job,) for job in jobs])
        return [StoredStep(*row) for row in rows]

    def steps_with(self, job: int, keys: Sequence[bytes]) -> list[StoredStep]:
        """Return the steps of a job with these keys."""
        query = "SELECT job, key, name, body FROM step WHERE (job, key) IN"
        return [StoredStep(*row) for row in self._select(query, [(job, key) for key in keys])]

    def last_parts(self, jobs: Sequence[int]) -> list[StepPartRow]:
        """Return the last part of the steps of each of the jobs that have parts."""
        query = "SELECT * FROM step_part WHERE job = ? ORDER BY start DESC LIMIT 1"
        return [StepPartRow(*row) for job in jobs for row in self._connection.execute(query, (job,))]

    def put_parts(self, rows: Sequence[StepPartRow]) -> None:
        """Add parts of steps. One that exists is overwritten."""
        self._put("INSERT OR REPLACE INTO step_part VALUES ", rows)

    def insert_steps(self, steps: Sequence[StoredStep]) -> None:
        """Add steps that do not exist."""
        self._put("INSERT OR FAIL INTO step VALUES ", steps)

    def put_steps(self, steps: Sequence[StoredStep]) -> None:
        """Add steps. One that exists is overwritten."""
        self._put("INSERT OR REPLACE INTO step VALUES ", steps)

    def insert_jobs(self, rows: Sequence[JobRow]) -> None:
        """Add the rows of new jobs."""
        if not rows:
            return
        known = known_columns(rows)
        values_of = itemgetter(*known)
        names = ", ".join(JobRow._fields[index] for index in known)
        statement = f"INSERT OR FAIL INTO job ({names}) VALUES "  # noqa: S608 (no user input)
        self._put(statement, [values_of(row) for row in rows])

    def update_jobs(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Overwrite `columns` of jobs. Each row has the job's number, and their values."""
        if not columns:
            return
        known = known_columns(rows)  # the number is the first of them
        new = [f"{columns[index - 1]} = new.column{order}" for order, index in enumerate(known[1:], 2)]
        nulls = [name for index, name in enumerate(columns, 1) if index not in known]
        values = ", ".join([*new, *(f"{name} = NULL" for name in nulls)])
        self._put(
            f"UPDATE OR FAIL job SET {values} FROM (VALUES ",  # noqa: S608 (no user input)
            rows if not nulls else [tuple([row[index] for index in known]) for row in rows],
            ") AS new WHERE number = new.column1",
        )

    def put_future_jobs(self, rows: Iterable[tuple[int, int]]) -> None:
        """Add rows (job, moment of receipt) of jobs of the future, or overwrite them."""
        self._put("INSERT OR REPLACE INTO future_job VALUES ", list(rows))

    def add_tallies(self, counts: Mapping[tuple[int, int], int]) -> None:
        """Add to the numbers of jobs by (connection, state)."""
        self._add("tally", [(*key, count) for key, count in counts.items()], "jobs = jobs + excluded.jobs")

    def add_rollups(self, counts: Mapping[RollupKey, int]) -> None:
        """Add to counts of `rollup`."""
        self._add("rollup", [(*key, count) for key, count in counts.items()], "count = count + excluded.count")

    def count_rollup_changes(self, hours: Iterable[tuple[int, int]]) -> None:
        """Count a change of the counts of each (connection, start of an hour)."""
        self._add("rollup_change", [(*hour, 1) for hour in hours], "changes = changes + 1")

    def add_worker_rollups(self, counts: Mapping[tuple[int, int, int], tuple[int, int]]) -> None:
        """Add to the counts (completed, failed) of (connection, start, worker)."""
        self._add(
            "worker_rollup",
            [(*key, *pair) for key, pair in counts.items()],
            "completed = completed + excluded.completed, failed = failed + excluded.failed",
        )

    def raise_positions(self, counts: Mapping[int, int]) -> dict[int, int]:
        """Add to the positions of connections, and return them as they are then."""
        return {
            connection: self._connection.execute(_RAISE_POSITION, (count, connection)).fetchall()[0][0]
            for connection, count in sorted(counts.items())
        }

    def put_frames(self, rows: Iterable[FrameBlockRow]) -> None:
        """Add frames."""
        self._connection.executemany("INSERT INTO frame_block VALUES (?, ?, ?)", rows)

    def drop_frames(self, connection: int, up_to: int) -> None:
        """Delete the blocks of a connection that end up to a position."""
        self._connection.execute("DELETE FROM frame_block WHERE connection = ? AND last <= ?", (connection, up_to))

    def known_series(self, keys: Sequence[tuple[int, int, int, bytes]]) -> set[tuple[int, int, int, bytes]]:
        """Return those of the rows (connection, label, at, key) of `series` that exist."""
        query = "SELECT connection, label, at, key FROM series WHERE (connection, label, at, key) IN"
        return set(self._select(query, keys))

    def put_series(self, rows: Iterable[SeriesRow]) -> None:
        """Add rows of `series` that do not exist."""
        self._put("INSERT INTO series VALUES ", list(rows))

    def workers(self, keys: Sequence[tuple[int, int]]) -> list[WorkerRow]:
        """Return the rows of the workers (connection, label) that exist."""
        return [WorkerRow(*row) for row in self._select("SELECT * FROM worker WHERE (connection, worker) IN", keys)]

    def put_workers(self, rows: Iterable[WorkerRow]) -> None:
        """Add rows of workers, or overwrite them."""
        self._put("INSERT OR REPLACE INTO worker VALUES ", list(rows))

    def queues(self, keys: Sequence[tuple[int, int]]) -> list[QueueRow]:
        """Return the rows of the queues (connection, label) that exist."""
        return [QueueRow(*row) for row in self._select("SELECT * FROM queue WHERE (connection, queue) IN", keys)]

    def put_queues(self, rows: Iterable[QueueRow]) -> None:
        """Add rows of queues, or overwrite them."""
        self._put("INSERT OR REPLACE INTO queue VALUES ", list(rows))

    def used_bytes(self) -> int:
        """Return the size of the file without its free pages."""
        return (self._pragma("page_count") - self._pragma("freelist_count")) * self._pragma("page_size")

    def release_space(self) -> None:
        """Give free pages back to the file system, a part at a time, if there are many."""
        free = self._pragma("freelist_count")
        if free > max(_FREE_PAGES, self._pragma("page_count") // 20):
            self._connection.execute(f"PRAGMA incremental_vacuum({_RELEASED_PAGES})").fetchall()

    def all_connections(self) -> list[int]:
        """Return the numbers of all connections."""
        return [number for (number,) in self._connection.execute("SELECT number FROM connection ORDER BY number")]

    def oldest_jobs(self, connection: int, state: int, changed_before: int, limit: int) -> list[OldJob]:
        """Return the first created jobs of a connection in a state, without those that have changed since a moment."""
        values = (connection, state, changed_before, changed_before, limit)
        return [OldJob(*row) for row in self._connection.execute(_OLDEST_JOBS, values)]

    def old_future_jobs(self, states: Sequence[int], received_before: int, future: int, limit: int) -> list[OldJob]:
        """Return the first received jobs of the future in `states` whose latest event arrived before a moment, without
        those that were created or changed since, up to `future`."""
        period = received_before, future
        values = (received_before, *states, *period, *period, limit)
        query = _OLD_FUTURE_JOBS.format(", ".join("?" * len(states)))
        return [OldJob(*row) for row in self._connection.execute(query, values)]

    def delete_jobs(self, numbers: Sequence[int]) -> None:
        """Delete jobs with their steps."""
        self._connection.executemany("DELETE FROM future_job WHERE job = ?", [(number,) for number in sorted(numbers)])
        self._connection.executemany("DELETE FROM step_part WHERE job = ?", [(number,) for number in sorted(numbers)])
        self._connection.executemany("DELETE FROM step WHERE job = ?", [(number,) for number in sorted(numbers)])
        self._connection.executemany("DELETE FROM job WHERE number = ?", [(number,) for number in sorted(numbers)])

    def next_to_thin(self) -> int:
        """Return the moment of the first point that is not thinned."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'thinned_until'").fetchone()
        thinned_until = -_NEVER if row is None else int(row[0])
        query = "SELECT min(at) FROM series WHERE connection = ? AND label = ? AND at >= ?"
        firsts = [self._connection.execute(query, (*key, thinned_until)).fetchone()[0] for key in self._series()]
        return min((first for first in firsts if first is not None), default=_NEVER)

    def thin_series(self, start: int, end: int, interval: int) -> None:
        """Leave in each series one point an interval from `start` to `end`, before which all is thinned then."""
        values = [(*key, start, end, interval, interval) for key in self._series()]
        self._connection.executemany(_THIN_SERIES, values)
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('thinned_until', ?)", (str(end),))

    def delete_rollups(self, minutes: int, before: int) -> None:
        """Delete the counts of intervals of `minutes` that begin before a minute since 1970."""
        values = [(connection, minutes, before) for connection in self.all_connections()]
        self._connection.executemany("DELETE FROM rollup WHERE connection = ? AND minutes = ? AND start < ?", values)

    def delete_rollup_changes(self, before: int) -> None:
        """Delete the numbers of changes of hours that begin before a minute since 1970."""
        values = [(connection, before) for connection in self.all_connections()]
        self._connection.executemany("DELETE FROM rollup_change WHERE connection = ? AND start < ?", values)

    def delete_worker_rollups(self, before: int) -> None:
        """Delete the counts of workers before a minute since 1970."""
        values = [(connection, before) for connection in self.all_connections()]
        self._connection.executemany("DELETE FROM worker_rollup WHERE connection = ? AND start < ?", values)

    def delete_leases(self, before: int) -> None:
        """Delete leases that ended before a moment."""
        self._connection.execute("DELETE FROM lease WHERE until < ?", (before,))

    def delete_usage(self, before: str) -> None:
        """Delete the usage of days before one."""
        self._connection.execute("DELETE FROM usage WHERE day < ?", (before,))

    def delete_samples(self, before: int) -> None:
        """Delete the points of series before a moment, and the workers and queues whose latest event is older."""
        values = [(*key, before) for key in self._series()]
        self._connection.executemany("DELETE FROM series WHERE connection = ? AND label = ? AND at < ?", values)
        self._connection.execute("DELETE FROM worker WHERE at < ?", (before,))
        self._connection.execute("DELETE FROM queue WHERE at < ?", (before,))

    def _add(self, table: str, rows: Sequence[tuple[Any, ...]], change: str) -> None:
        """Add rows of `table`; of those whose key exists, do `change`."""
        statement = f"INSERT INTO {table} VALUES "  # noqa: S608 (no user input)
        self._put(statement, rows, f" ON CONFLICT DO UPDATE SET {change}")

    def _put(self, before: str, rows: Sequence[Sequence[Any]], after: str = "") -> None:
        """Do the statement whose list of rows is between `before` and `after`, for all `rows`.

        It has many at a time, as the thread lets go of the interpreter before each statement, and may have to wait for
        it. With ``OR FAIL`` SQLite does not copy the pages that the statement changes, in order to take it back alone:
        the transaction is rolled back as a whole.
        """
        start = 0
        for count in _ROWS:
            while len(rows) - start >= count:
                part = rows[start : start + count]
                values = _placeholders(len(part[0]), count)
                self._connection.execute(f"{before}{values}{after}", list(chain.from_iterable(part)))
                start += count

    def _series(self) -> list[tuple[int, int]]:
        return list(self._connection.execute(_SERIES))

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def _select(self, query: str, keys: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        """Return the rows of `query`, which ends before its list of values, for all `keys`, a part at a time."""
        width = len(keys[0]) if keys else 1
        for start in range(0, len(keys), _MAX_VALUES):
            part = keys[start : start + _MAX_VALUES]
            row = _placeholders(width, len(part))
            values = f"(VALUES {row})" if width > 1 else f"({', '.join('?' * len(part))})"
            yield from self._connection.execute(f"{query} {values}", [value for key in part for value in key])
