"""The SQL of the writer on PostgreSQL, on the driver itself: psycopg.

Several processes may write at once. The rows of jobs are locked in the order of their ids, counts are added to in the
order of their keys, and positions are raised last, so that writers wait for each other as shortly as possible, and the
commits of one connection are in the order of its positions. Where two writers collide nonetheless, as both bring the
first events of a job, one of them gets a `ConflictError`, and repeats its transaction while the others wait: it would
else lose against the next one again.

A transaction is a pipeline: statements that return nothing are sent at once, and the writer goes on while PostgreSQL
works on them. The last ones and the commit are awaited together. Many rows are one statement, with an array for each
column.
Events themselves are stored as bytes, and keep characters that a text of PostgreSQL can't contain.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from operator import attrgetter, itemgetter
from time import monotonic
from typing import Any

import psycopg
from psycopg import Connection, Cursor, errors
from sqlalchemy.dialects import postgresql

from sluice_agent.server.store.driver import (
    ConflictError,
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
from sluice_agent.server.store.postgresql_arrays import Array, array_of, numbers_array, register_arrays, storable
from sluice_agent.server.store.schema import metadata
from sluice_agent.server.store.steps import StoredStep

logging.getLogger("psycopg").setLevel(logging.ERROR)  # it warns of each transaction that is rolled back: a conflict

CHANNEL = "sluice_frames"
"""The channel of notifications: their payload is ``connection:first:last`` for each connection that has new frames."""

_CONFLICTS = (errors.DeadlockDetected, errors.SerializationFailure, errors.UniqueViolation)
_UNAVAILABLE = (psycopg.OperationalError, psycopg.InterfaceError)
_RANGES_IN_PAYLOAD = 120  # three numbers each: PostgreSQL takes 8,000 bytes
_DROPPED_BLOCKS = 1_000  # of frames, after which their space is made free
_NEVER = 2**62  # a moment after all others
_OLDEST_JOBS = (
    "SELECT number, uuid, connection, state, created_at FROM job"
    " WHERE connection = %s AND state = %s AND created_at < %s AND changed_at < %s"
    " ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED"
)
_OLD_FUTURE_JOBS = (
    "SELECT number, uuid, connection, state, created_at FROM future_job JOIN job ON number = future_job.job"
    " WHERE received_at < %s AND state = ANY(%s::smallint[])"
    " AND created_at NOT BETWEEN %s AND %s AND changed_at NOT BETWEEN %s AND %s ORDER BY received_at LIMIT %s"
    " FOR UPDATE OF job SKIP LOCKED"
)
_THIN_SERIES = (
    "DELETE FROM series WHERE at >= %s AND at < %s AND EXISTS ("
    " SELECT 1 FROM series AS later WHERE later.connection = series.connection AND later.label = series.label"
    " AND later.at > series.at AND later.at < (series.at / %s + 1) * %s)"
)
_SIZE = """
WITH widths AS (SELECT tablename, sum(avg_width) + 32 AS width FROM pg_stats WHERE schemaname = 'public' GROUP BY 1)
SELECT sum(pg_total_relation_size(relid) * least(1.0, n_live_tup * width / greatest(1.0, pg_relation_size(relid)))),
    greatest(1, max(n_live_tup) FILTER (WHERE relname = 'job'))
FROM pg_stat_user_tables JOIN widths ON relname = tablename
"""
_WRITERS = 0x51C1CF  # any number: the lock that all transactions of writers share
_LOCK_BESIDE_OTHERS = f"SELECT pg_advisory_xact_lock_shared({_WRITERS})"
_LOCK_ALONE = f"SELECT pg_advisory_xact_lock({_WRITERS})"
_VERSION = "SELECT pg_current_xact_id()::xid::text::bigint"
_SIZE_INTERVAL = 5.0  # seconds; PostgreSQL's own figures lag a second behind


class PostgresqlDriver:
    """The writer's connection to PostgreSQL. `connect` makes a new one, again if it is lost.

    Labels and connections are made on a connection of their own, and at once: a transaction that holds them until its
    commit would block all others that need the same.
    """

    owns_database = False
    first_jobs = 128  # PostgreSQL begins early, and has work until the writer has prepared the next

    def __init__(self, connect: Callable[[], Connection[Any]]) -> None:
        self._connect = connect
        self._used = self._job_size = self._dropped_blocks = 0
        self._drops: list[Cursor[Any]] = []
        self._next_measurement = 0.0
        self._open()

    def _open(self) -> None:
        self._connection = self._connect()
        self._labels = self._connect()
        for connection in (self._connection, self._labels):
            register_arrays(connection)
        ((self._numbers,),) = self._select("SELECT pg_get_serial_sequence('job', 'number')")

    @contextmanager
    def transaction(self, *, excludes_others: bool = False) -> Iterator[None]:
        """Return a block that is committed as a whole, or rolled back as a whole if it raises. `excludes_others`: those
        of other processes wait until it ends."""
        self._drops = []
        try:
            if self._connection.closed or self._labels.closed:
                self.close()
                self._open()
            with self._connection.pipeline(), self._connection.transaction():
                self._execute(_LOCK_ALONE if excludes_others else _LOCK_BESIDE_OTHERS)
                self._version_cursor = self._execute(_VERSION)
                yield
            self._vacuum_frames()
        except _CONFLICTS as error:
            raise ConflictError(str(error)) from error
        except errors.ProgramLimitExceeded:
            raise  # of one event's content: psycopg counts it among the faults of the server
        except _UNAVAILABLE as error:
            raise UnavailableError(str(error).strip().partition("\n")[0]) from error

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()
        self._labels.close()

    def connections(self, ids: Sequence[str], now: int) -> dict[str, int]:
        """Return the numbers of connections by their ids; those that are missing are made, at `now` microseconds."""
        with self._labels.cursor() as cursor:
            statement = "INSERT INTO connection (id, created_at) VALUES (%s, %s) ON CONFLICT (id) DO NOTHING"
            cursor.executemany(statement, [(id_, now) for id_ in sorted(ids)])
            return dict(cursor.execute("SELECT id, number FROM connection WHERE id = ANY(%s)", (list(ids),)))

    def labels(self, labels: Collection[Label]) -> dict[Label, int]:
        """Return the numbers of labels; those that are missing are made."""
        stored = {label: (int(label[0]), storable(label[1])) for label in labels}
        columns = [[kind for kind, _ in stored.values()], [text for _, text in stored.values()]]
        with self._labels.cursor() as cursor:
            cursor.execute(
                "INSERT INTO label (kind, text) SELECT DISTINCT * FROM unnest(%s::smallint[], %s::text[]) AS new(k, t)"
                " ORDER BY 1, 2 ON CONFLICT DO NOTHING",
                columns,
            )
            cursor.execute(
                "SELECT kind, text, number FROM label JOIN unnest(%s::smallint[], %s::text[]) AS new(k, t)"
                " ON kind = k AND text = t",
                columns,
            )
            numbers = {(kind, text): number for kind, text, number in cursor}
        return {label: numbers[key] for label, key in stored.items()}

    def texts(self, numbers: Collection[int]) -> dict[int, str]:
        """Return the texts of labels by their numbers."""
        query = "SELECT number, text FROM label WHERE number = ANY(%s::bigint[])"
        return dict(self._select(query, numbers_array(numbers)))

    def usage(self, connections: Collection[int], day: str, *, locks: bool) -> dict[int, int]:
        """Return the events that each connection has sent on `day`; a connection without any may be missing. `locks`:
        no other process adds to the counts until the commit."""
        if locks:
            self.add_usage([(connection, day, 0) for connection in connections])
        query = "SELECT connection, events FROM usage WHERE connection = ANY(%s::integer[]) AND day = %s"
        return dict(self._select(query, numbers_array(connections), day))

    def add_usage(self, rows: Iterable[tuple[int, str, int]]) -> None:
        """Add to the counts of (connection, day)."""
        self._merge("usage", rows, "UPDATE SET events = usage.events + excluded.events")

    def version(self) -> int:
        """Return the version that jobs have to which the transaction adds steps: its id, which PostgreSQL keeps in each
        row that it writes."""
        for (version,) in self._version_cursor:  # once: it was asked for at the beginning
            self._version = int(version)
        return self._version

    def jobs(self, uuids: Sequence[bytes]) -> list[StoredJob]:
        """Return those of the jobs that exist, locked against other writers until the commit."""
        query = (
            "SELECT number, uuid, xmin::text::bigint, fold FROM job"
            " WHERE uuid = ANY(%s::bytea[]) ORDER BY uuid FOR UPDATE"
        )
        return [StoredJob(*row) for row in self._select(query, array_of(uuids, "BYTEA"))]

    def new_jobs(self, count: int) -> Sequence[int]:
        """Return numbers for `count` new jobs."""
        if not count:
            return []
        query = "SELECT nextval(%s::regclass) FROM generate_series(1, %s)"
        return [number for (number,) in self._select(query, self._numbers, str(count))]

    def step_keys(self, jobs: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return (job, key) of all steps of the jobs."""
        query = "SELECT job, key FROM step WHERE job = ANY(%s::bigint[])"
        return self._select(query, numbers_array(jobs)) if jobs else []

    def steps_of(self, jobs: Sequence[int]) -> list[StoredStep]:
        """Return all steps of the jobs."""
        query = "SELECT job, key, name, body FROM step WHERE job = ANY(%s::bigint[])"
        return [StoredStep(*row) for row in self._select(query, numbers_array(jobs))] if jobs else []

    def steps_with(self, job: int, keys: Sequence[bytes]) -> list[StoredStep]:
        """Return the steps of a job with these keys."""
        query = "SELECT job, key, name, body FROM step WHERE job = %s AND key = ANY(%s::bytea[])"
        return [StoredStep(*row) for row in self._select(query, job, array_of(keys, "BYTEA"))]

    def last_parts(self, jobs: Sequence[int]) -> list[StepPartRow]:
        """Return the last part of the steps of each of the jobs that have parts."""
        query = "SELECT DISTINCT ON (job) * FROM step_part WHERE job = ANY(%s::bigint[]) ORDER BY job, start DESC"
        return [StepPartRow(*row) for row in self._select(query, numbers_array(jobs))] if jobs else []

    def put_parts(self, rows: Sequence[StepPartRow]) -> None:
        """Add parts of steps. One that exists is overwritten."""
        self._overwrite("step_part", StepPartRow._fields[2:], rows)

    def insert_steps(self, steps: Sequence[StoredStep]) -> None:
        """Add steps that do not exist."""
        self._insert("step", sorted(steps))

    def put_steps(self, steps: Sequence[StoredStep]) -> None:
        """Add steps. One that exists is overwritten."""
        self._merge("step", steps, "UPDATE SET name = excluded.name, body = excluded.body")

    def insert_jobs(self, rows: Sequence[JobRow]) -> None:
        """Add the rows of new jobs. It is a conflict if another process has just added one of them."""
        if rows:
            known = known_columns(rows)
            rows_in_order = sorted(rows, key=attrgetter("uuid"))
            columns = tuple(JobRow._fields[index] for index in known)
            self._insert_columns("job", columns, map(itemgetter(*known), rows_in_order))

    def update_jobs(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Overwrite `columns` of jobs. Each row has the job's number, and their values. Without any columns, only the
        version of the jobs changes."""
        written = ("number", *columns)
        self._execute(_update_of_jobs(written), *_arrays("job", written, rows))

    def put_future_jobs(self, rows: Iterable[tuple[int, int]]) -> None:
        """Add rows (job, moment of receipt) of jobs of the future, or overwrite them."""
        self._overwrite("future_job", ("received_at",), rows)

    def add_tallies(self, counts: Mapping[tuple[int, int], int]) -> None:
        """Add to the numbers of jobs by (connection, state)."""
        rows = [(*key, count) for key, count in counts.items()]
        self._merge("tally", rows, "UPDATE SET jobs = tally.jobs + excluded.jobs")

    def add_rollups(self, counts: Mapping[RollupKey, int]) -> None:
        """Add to counts of `rollup`."""
        rows = [(*key, count) for key, count in counts.items()]
        self._merge("rollup", rows, "UPDATE SET count = rollup.count + excluded.count")

    def count_rollup_changes(self, hours: Iterable[tuple[int, int]]) -> None:
        """Count a change of the counts of each (connection, start of an hour)."""
        rows = [(*hour, 1) for hour in hours]
        self._merge("rollup_change", rows, "UPDATE SET changes = rollup_change.changes + 1")

    def add_worker_rollups(self, counts: Mapping[tuple[int, int, int], tuple[int, int]]) -> None:
        """Add to the counts (completed, failed) of (connection, start, worker)."""
        self._merge(
            "worker_rollup",
            [(*key, *pair) for key, pair in counts.items()],
            "UPDATE SET completed = worker_rollup.completed + excluded.completed,"
            " failed = worker_rollup.failed + excluded.failed",
        )

    def raise_positions(self, counts: Mapping[int, int]) -> dict[int, int]:
        """Add to the positions of connections, and return them as they are then. Other processes are notified of the
        frames when the transaction is committed."""
        positions: dict[int, int] = {}
        for connection, count in sorted(counts.items()):
            query = "UPDATE connection SET position = position + %s WHERE number = %s RETURNING position"
            ((positions[connection],),) = self._select(query, count, connection)
        self._notify([f"{number}:{last - counts[number] + 1}:{last}" for number, last in positions.items()])
        return positions

    def put_frames(self, rows: Iterable[FrameBlockRow]) -> None:
        """Add frames."""
        self._insert("frame_block", rows)

    def drop_frames(self, connection: int, up_to: int) -> None:
        """Delete the blocks of a connection that end up to a position."""
        statement = "DELETE FROM frame_block WHERE connection = %s AND last <= %s"
        self._drops.append(self._execute(statement, connection, up_to))

    def known_series(self, keys: Sequence[tuple[int, int, int, bytes]]) -> set[tuple[int, int, int, bytes]]:
        """Return those of the rows (connection, label, at, key) of `series` that exist."""
        query = (
            "SELECT connection, label, at, key FROM series JOIN"
            " unnest(%s::integer[], %s::integer[], %s::bigint[], %s::bytea[]) AS known(c, l, a, k)"
            " ON connection = c AND label = l AND at = a AND key = k"
        )
        columns = "connection", "label", "at", "key"
        return set(self._select(query, *_arrays("series", columns, keys))) if keys else set()

    def put_series(self, rows: Iterable[SeriesRow]) -> None:
        """Add rows of `series`. One that another process has just added is the same."""
        self._merge("series", rows, "NOTHING")

    def workers(self, keys: Sequence[tuple[int, int]]) -> list[WorkerRow]:
        """Return the rows of the workers (connection, label) that exist, locked until the commit."""
        return [WorkerRow(*row) for row in self._locked_pairs("worker", keys)]

    def put_workers(self, rows: Iterable[WorkerRow]) -> None:
        """Add rows of workers, or overwrite them."""
        self._overwrite("worker", WorkerRow._fields[2:], rows)

    def queues(self, keys: Sequence[tuple[int, int]]) -> list[QueueRow]:
        """Return the rows of the queues (connection, label) that exist, locked until the commit."""
        return [QueueRow(*row) for row in self._locked_pairs("queue", keys)]

    def put_queues(self, rows: Iterable[QueueRow]) -> None:
        """Add rows of queues, or overwrite them."""
        self._overwrite("queue", QueueRow._fields[2:], rows)

    def used_bytes(self) -> int:
        """Return the bytes of rows and indexes, as estimated from PostgreSQL's statistics.

        The size of its files is of no use: it does not give the space of deleted rows back, but puts new ones into it.
        """
        if (time := monotonic()) >= self._next_measurement:
            self._execute("SELECT 1")  # after a statement, the server counts what its connection has deleted
            ((used, jobs),) = self._select(_SIZE)
            self._used, self._next_measurement = int(used or 0), time + _SIZE_INTERVAL
            self._job_size = self._used // jobs if used else 0
        return self._used

    def release_space(self) -> None:
        """Do nothing: PostgreSQL's own vacuum makes room for new rows."""

    def all_connections(self) -> list[int]:
        """Return the numbers of all connections."""
        return [number for (number,) in self._select("SELECT number FROM connection ORDER BY number")]

    def oldest_jobs(self, connection: int, state: int, changed_before: int, limit: int) -> list[OldJob]:
        """Return the first created jobs of a connection in a state, without those that have changed since a moment, and
        without those that are being written."""
        values = (connection, state, changed_before, changed_before, limit)
        return [OldJob(*row) for row in self._select(_OLDEST_JOBS, *values)]

    def old_future_jobs(self, states: Sequence[int], received_before: int, future: int, limit: int) -> list[OldJob]:
        """Return the first received jobs of the future in `states` whose latest event arrived before a moment, without
        those that were created or changed since, up to `future`, and without those that are being written."""
        period = received_before, future
        values = (received_before, numbers_array(states), *period, *period, limit)
        return [OldJob(*row) for row in self._select(_OLD_FUTURE_JOBS, *values)]

    def delete_jobs(self, numbers: Sequence[int]) -> None:
        """Delete jobs with their steps."""
        self._used -= len(numbers) * self._job_size
        self._execute("DELETE FROM future_job WHERE job = ANY(%s::bigint[])", numbers_array(numbers))
        self._execute("DELETE FROM step_part WHERE job = ANY(%s::bigint[])", numbers_array(numbers))
        self._execute("DELETE FROM step WHERE job = ANY(%s::bigint[])", numbers_array(numbers))
        self._execute("DELETE FROM job WHERE number = ANY(%s::bigint[])", numbers_array(numbers))

    def next_to_thin(self) -> int:
        """Return the moment of the first point that is not thinned."""
        thinned = self._select("SELECT value::bigint FROM meta WHERE name = 'thinned_until'")
        thinned_until = int(thinned[0][0]) if thinned else -_NEVER
        ((first,),) = self._select("SELECT min(at) FROM series WHERE at >= %s", thinned_until)
        return _NEVER if first is None else int(first)

    def thin_series(self, start: int, end: int, interval: int) -> None:
        """Leave in each series one point an interval from `start` to `end`, before which all is thinned then."""
        self._execute(_THIN_SERIES, start, end, interval, interval)
        self._execute(
            "INSERT INTO meta VALUES ('thinned_until', %s) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            str(end),
        )

    def delete_rollups(self, minutes: int, before: int) -> None:
        """Delete the counts of intervals of `minutes` that begin before a minute since 1970."""
        connections = numbers_array(self.all_connections())
        statement = "DELETE FROM rollup WHERE connection = ANY(%s::integer[]) AND minutes = %s AND start < %s"
        self._execute(statement, connections, minutes, before)

    def delete_rollup_changes(self, before: int) -> None:
        """Delete the numbers of changes of hours that begin before a minute since 1970."""
        self._execute("DELETE FROM rollup_change WHERE start < %s", before)

    def delete_worker_rollups(self, before: int) -> None:
        """Delete the counts of workers before a minute since 1970."""
        self._execute("DELETE FROM worker_rollup WHERE start < %s", before)

    def delete_leases(self, before: int) -> None:
        """Delete leases that ended before a moment."""
        self._execute("DELETE FROM lease WHERE until < %s", before)

    def delete_usage(self, before: str) -> None:
        """Delete the usage of days before one."""
        self._execute("DELETE FROM usage WHERE day < %s", before)

    def delete_samples(self, before: int) -> None:
        """Delete the points of series before a moment, and the workers and queues whose latest event is older."""
        for table in ("series", "worker", "queue"):
            self._execute(f"DELETE FROM {table} WHERE at < %s", before)  # noqa: S608 (no user input)

    def _execute(self, statement: str, *values: Any) -> Cursor[Any]:
        return self._connection.execute(statement.encode(), values, binary=True)

    def _select(self, query: str, *values: Any) -> list[Any]:
        return self._execute(query, *values).fetchall()

    def _vacuum_frames(self) -> None:
        """Make the space of dropped blocks of frames free for new ones, if they are many.

        PostgreSQL's own vacuum looks once a minute, in which this table can grow to a hundred times its content.
        """
        self._dropped_blocks += sum(drop.rowcount for drop in self._drops)
        if self._dropped_blocks > _DROPPED_BLOCKS:
            self._dropped_blocks = 0
            self._labels.execute("VACUUM (SKIP_LOCKED, TRUNCATE off) frame_block")

    def _locked_pairs(self, table: str, keys: Sequence[tuple[int, int]]) -> list[Any]:
        if not keys:
            return []
        first, second = zip(*keys, strict=True)
        query = (
            f"SELECT {table}.* FROM {table} JOIN unnest(%s::integer[], %s::integer[]) AS wanted(c, l)"  # noqa: S608
            f" ON connection = c AND {table}.{table} = l ORDER BY c, l FOR UPDATE OF {table}"
        )
        return self._select(query, numbers_array(first), numbers_array(second))

    def _overwrite(self, table: str, columns: Sequence[str], rows: Iterable[Any]) -> None:
        assignments = ", ".join(f"{column} = excluded.{column}" for column in columns)
        self._merge(table, rows, f"UPDATE SET {assignments}")

    def _merge(self, table: str, rows: Iterable[Sequence[Any]], action: str) -> None:
        """Add `rows` in the order of their keys, and do `action` for those that exist."""
        keys = metadata.tables[table].primary_key.columns.keys()  # the first columns
        rows_in_order = sorted(rows, key=itemgetter(slice(len(keys))))
        self._insert(table, rows_in_order, f" ON CONFLICT ({', '.join(keys)}) DO {action}")

    def _insert(self, table: str, rows: Iterable[Sequence[Any]], action: str = "") -> None:
        """Add `rows`, which have all columns of the table."""
        self._insert_columns(table, tuple(metadata.tables[table].columns.keys()), rows, action)

    def _insert_columns(
        self, table: str, columns: tuple[str, ...], rows: Iterable[Sequence[Any]], action: str = ""
    ) -> None:
        """Add `rows`, which have `columns` of the table; the others are null."""
        if arrays := _arrays(table, columns, rows):
            names = ", ".join(columns)
            new = _unnest(table, columns)
            self._execute(f"INSERT INTO {table} ({names}) SELECT * FROM {new}{action}", *arrays)  # noqa: S608

    def _notify(self, ranges: Sequence[str]) -> None:
        """Notify other processes of the ranges of positions, in as few notifications as possible."""
        for start in range(0, len(ranges), _RANGES_IN_PAYLOAD):
            payload = " ".join(ranges[start : start + _RANGES_IN_PAYLOAD])
            self._execute("SELECT pg_notify(%s, %s)", CHANNEL, payload)


@cache
def _types(table: str) -> dict[str, str]:
    """Return the types of a table's columns by their names."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return {column.name: column.type.compile(dialect) for column in metadata.tables[table].columns}


@cache
def _unnest(table: str, columns: tuple[str, ...]) -> str:
    """Return the rows of arrays, one for each of `columns`, as a part of a statement."""
    types = _types(table)
    return f"unnest({', '.join(f'%s::{types[column]}[]' for column in columns)})"


@cache
def _update_of_jobs(columns: tuple[str, ...]) -> str:
    """Return the statement that overwrites `columns`, of which the first is the number."""
    assignments = ", ".join(f"{column} = new.{column}" for column in columns[1:]) or "attempt = job.attempt"
    new = f"{_unnest('job', columns)} AS new({', '.join(columns)})"
    return f"UPDATE job SET {assignments} FROM {new} WHERE job.number = new.number"  # noqa: S608 (no user input)


def _arrays(table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[Array]:
    """Return an array for each of `columns`; none if there are no rows."""
    types = _types(table)
    values_of_columns = zip(*rows, strict=True)
    return [array_of(values, types[column]) for column, values in zip(columns, values_of_columns)]  # noqa: B905
