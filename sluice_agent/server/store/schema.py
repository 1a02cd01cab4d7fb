"""The tables of the database, in both dialects.

Times are microseconds since 1970 in UTC. A text that many rows share (a task's name, a queue, a worker, a class of
errors) is a number of `label`. A row of `step` is one event of a job: its key makes a second copy of the event
impossible, and a job's steps lie side by side. A job's row is derived from its steps alone; it holds what lists show
and sort by. A position counts the frames of one connection, in the order of their commits, without a gap.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

Number = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
"""A sequential number: SQLite makes it the row's own id only if its type is exactly INTEGER."""

metadata = MetaData()


class LabelKind(IntEnum):
    """The kinds of texts in `label`."""

    NAME = 1
    QUEUE = 2
    WORKER = 3
    ERROR_CLASS = 4
    ERROR_LOCATION = 5


meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
"""Single values, such as `epoch`: a random text that a restored or new database changes, part of each stream id."""

connection = Table(
    "connection",
    metadata,
    Column("number", Number, primary_key=True),
    Column("id", Text, nullable=False, unique=True),  # a UUID in lower case
    Column("name", Text, unique=True),  # null: a client has sent events under an id without a name
    Column("created_at", BigInteger, nullable=False),
    Column("position", BigInteger, nullable=False, server_default=text("0")),  # of the last frame
)

usage = Table(
    "usage",
    metadata,
    Column("connection", Integer, primary_key=True),
    Column("day", Text, primary_key=True),  # 2026-02-27
    Column("events", BigInteger, nullable=False),
)

label = Table(
    "label",
    metadata,
    Column("number", Number, primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("text", Text().with_variant(postgresql.TEXT(collation="C"), "postgresql"), nullable=False),
    UniqueConstraint("kind", "text").ddl_if(dialect="sqlite"),
    # A row of PostgreSQL's trees has 2,704 bytes at most, and a text may be longer; a row of its hash indexes has four.
    postgresql.ExcludeConstraint((text("(kind || ' ' || text)"), "="), using="hash", name="label_once").ddl_if(
        dialect="postgresql"
    ),
)
Index("label_by_text", label.c.text, postgresql_using="hash").ddl_if(dialect="postgresql")


def _partial(name: str, condition: str, *columns: str) -> Index:
    """Return an index over the rows that fulfil `condition` only: the others cost nothing."""
    where = text(condition)
    return Index(name, "connection", *columns, sqlite_where=where, postgresql_where=where)


def _sorted_indexes() -> Iterator[Index]:
    """Yield an index for each value by which jobs are sorted, within a connection and a state.

    A list of several states merges them. Each index also holds what lists are filtered by, so that a job which does not
    match is passed without a look at its row.
    """
    for name, column, condition in (
        ("job_by_state", "created_at", None),
        ("job_by_change", "changed_at", None),
        ("job_by_start", "started_at", "started_at IS NOT NULL"),
        ("job_by_end", "completed_at", "completed_at IS NOT NULL"),
        ("job_by_duration", "duration_ms", "duration_ms IS NOT NULL"),
    ):
        columns = ("state", column, "number", "name", "queue", "worker")
        yield _partial(name, condition, *columns) if condition else Index(name, "connection", *columns)


NEAR = 3_600_000_000
"""Microseconds after its creation in which most jobs have started, changed their state and ended."""

APART = " OR ".join(
    f"{column} < created_at OR {column} > created_at + {NEAR}"
    for column in ("changed_at", "started_at", "completed_at")
)
"""The condition of the other jobs: one that waited for long, or was reported by clocks that disagree. They have an
index of their own, so that a list of a range of creation, sorted by one of these times, can begin near the range."""

HELD = "state IN (2, 6)"
"""The condition of jobs that may have an ETA: scheduled and retrying ones. They alone have the index of it."""

QUEUED_UNTIL = "state = 1 AND expires_at IS NOT NULL"
"""The condition of jobs that wait, and may not start after a time: queued ones with an expiry."""

job = Table(
    "job",
    metadata,
    Column("number", Number, primary_key=True),
    Column("uuid", LargeBinary(16), nullable=False, unique=True),  # Sluice's id, made from the next two
    Column("connection", Integer, nullable=False),
    Column("external_id", Text, nullable=False),
    Column("framework", SmallInteger, nullable=False),
    Column("name", Integer, nullable=False),  # this and the next three are labels
    Column("queue", Integer),
    Column("worker", Integer),
    Column("error_class", Integer),
    Column("state", SmallInteger, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),  # the first known moment
    Column("changed_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("scheduled_for", BigInteger),
    Column("duration_ms", BigInteger),
    Column("error", Text),
    Column("root_id", Text),  # null also where the job is its own root, as most are
    Column("group_id", Text),
    Column("fold", LargeBinary),  # the summary, of a job of many steps only: the others are walked through
    Column("error_location", Integer),  # label
    Column("parent", LargeBinary(16)),  # the id of the job that published it, whether or not that is known here
    Column("expires_at", BigInteger),  # the job may not start after it
    *_sorted_indexes(),
    Index("job_by_name", "connection", "name", "created_at", "number", "queue"),
    _partial("job_by_name_and_duration", "duration_ms IS NOT NULL", "name", "duration_ms", "number"),
    Index("job_by_queue", "connection", "queue", "created_at", "number", "name"),
    _partial("job_by_queue_and_name", "queue IS NOT NULL", "queue", "name", "created_at", "number"),
    _partial("job_by_worker", "worker IS NOT NULL", "worker", "created_at", "number", "name", "queue"),
    _partial(
        "job_by_error",
        "error_class IS NOT NULL",
        "created_at",
        "number",
        "error_class",
        "error_location",
        "name",
        "changed_at",
    ),
    _partial("job_by_error_class", "error_class IS NOT NULL", "error_class", "created_at", "number", "error_location"),
    _partial(
        "job_by_error_location", "error_location IS NOT NULL", "error_location", "created_at", "number", "error_class"
    ),
    _partial("job_by_root", "root_id IS NOT NULL", "root_id", "created_at", "state"),
    _partial("job_by_group", "group_id IS NOT NULL", "group_id", "created_at", "state", "changed_at"),
    _partial("job_by_parent", "parent IS NOT NULL", "parent", "group_id", "state", "changed_at"),
    _partial("job_by_framework", "framework <> 0", "framework", "created_at"),
    _partial("job_apart", APART, "created_at"),
    _partial("job_by_expiry", QUEUED_UNTIL, "expires_at", "created_at", "number", "name", "queue"),
    _partial("job_by_eta", HELD, "scheduled_for", "created_at", "number", "name", "queue"),
)

_STATISTICS = {
    **dict.fromkeys(("job_by_state", "job_by_change", "job_by_start", "job_by_end"), "1000000 500000 60000 2 1 1 1 1"),
    "job_by_duration": "1000000 500000 60000 20 1 1 1 1",
    "job_by_name": "1000000 500000 2500 2 1 1",
    "job_by_name_and_duration": "1000000 500000 2500 10 1",
    "job_by_queue": "1000000 500000 20000 2 1 1",
    "job_by_queue_and_name": "1000000 500000 20000 2000 2 1",
    "job_by_worker": "1000000 500000 10000 2 1 1 1",
    "job_by_error": "20000 10000 2 1 1 1 1 1",
    "job_by_error_class": "20000 10000 500 2 1 1",
    "job_by_error_location": "20000 10000 100 2 1 1",
    "job_by_root": "200000 100000 10 2 1",
    "job_by_group": "200000 100000 10 2 1 1",
    "job_by_parent": "200000 100000 10 5 2 1",
    "job_by_framework": "10000 5000 5000 2",
    "job_apart": "10000 5000 2",
    "job_by_eta": "10000 5000 2 2 1 1 1",
    "job_by_expiry": "10000 5000 2 2 1 1 1",
}
"""For each index the rows in it, and how many on average are equal in its first column, in its first two, and so on.

SQLite's planner would otherwise take an index of a connection alone for as good as one of a connection and a queue.
"""


@event.listens_for(job, "after_create")
def _analyze(_target: Table, connection: Connection, **_options: object) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("ANALYZE job")  # it is empty: this makes the table of statistics
        seed_statistics(connection)


def seed_statistics(connection: Connection) -> None:
    """Write the statistics of the indexes of `job` into a file of SQLite, in place of those that it has."""
    connection.exec_driver_sql("DELETE FROM sqlite_stat1 WHERE tbl = 'job'")
    rows = [("job", index, figures) for index, figures in _STATISTICS.items()]
    connection.exec_driver_sql("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", rows)
    connection.exec_driver_sql("ANALYZE sqlite_schema")  # reads it again


AHEAD = 86_400_000_000
"""Microseconds by which a clock may be ahead of the server's: a job of a later time is one of `future_job`."""

future_job = Table(
    "future_job",
    metadata,
    Column("job", BigInteger, primary_key=True, autoincrement=False),
    Column("received_at", BigInteger, nullable=False),
    Index("future_job_by_receipt", "received_at"),
)
"""When the latest event of each job arrived whose creation or change was in the future: its age counts from then."""

step = Table(
    "step",
    metadata,
    Column("job", BigInteger, primary_key=True),
    Column("key", LargeBinary(8), primary_key=True),
    Column("name", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

step_part = Table(
    "step_part",
    metadata,
    Column("job", BigInteger, primary_key=True),
    Column("start", Integer, primary_key=True),  # the number of steps before it
    Column("states", Integer, nullable=False),  # before it, as the snapshot has them
    Column("snapshot", LargeBinary, nullable=False),  # the `Snapshot` of all steps before it; empty for the first part
    Column("keys", LargeBinary, nullable=False),  # of its steps in their order, joined
    sqlite_with_rowid=False,
)
"""The order of the steps of a job that has many."""

worker = Table(
    "worker",
    metadata,
    Column("connection", Integer, primary_key=True),
    Column("worker", Integer, primary_key=True),  # label
    Column("at", BigInteger, nullable=False),  # of the latest event
    Column("first_seen", BigInteger, nullable=False),
    Column("last_heartbeat", BigInteger),
    Column("state", SmallInteger, nullable=False),
    Column("state_at", BigInteger),  # of the latest event that names a state; null: there were only heartbeats
    Column("active_jobs", Integer),
    Column("framework", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # the latest event's worker, with what earlier ones named, and PROCESS
)

queue = Table(
    "queue",
    metadata,
    Column("connection", Integer, primary_key=True),
    Column("queue", Integer, primary_key=True),  # label
    Column("at", BigInteger, nullable=False),  # of the latest snapshot
    Column("first_seen", BigInteger, nullable=False),
    Column("depth", BigInteger),  # null: no snapshot has named the queue, only jobs
    Column("consumers", Integer),
    Column("framework", SmallInteger, nullable=False),
)

series = Table(
    "series",
    metadata,
    Column("connection", Integer, primary_key=True),
    Column("label", Integer, primary_key=True),  # a queue or a worker
    Column("at", BigInteger, primary_key=True),
    Column("key", LargeBinary(8), primary_key=True),  # of the event: a second copy is a duplicate
    Column("depth", BigInteger),  # of a queue, or the active jobs of a worker
    Column("consumers", Integer),
    Column("load", Double),
    sqlite_with_rowid=False,
)

ALL_NAMES = 0
"""In `rollup`, for hours and days: the jobs of all names together, as lists of queues need them."""

MINUTE, HOUR, DAY = 1, 60, 1_440
"""The lengths of the intervals of `rollup`, in minutes."""

MINUTES_KEPT = 2 * DAY
"""The minutes for which `rollup` has each minute."""

HOURS_KEPT = 90 * DAY
"""The minutes for which `rollup` has each hour and each day."""

rollup = Table(
    "rollup",
    metadata,
    Column("connection", Integer, primary_key=True),
    Column("minutes", SmallInteger, primary_key=True),  # the length of the interval: 1, 60 or 1440
    Column("start", BigInteger, primary_key=True),  # minutes since 1970
    Column("name", Integer, primary_key=True),  # or `ALL_NAMES`
    Column("queue", Integer, primary_key=True),  # 0: unknown
    Column("measure", SmallInteger, primary_key=True),  # a `Measure`
    Column("bucket", SmallInteger, primary_key=True),
    Column("count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

rollup_change = Table(
    "rollup_change",
    metadata,
    Column("connection", Integer, primary_key=True),
    Column("start", BigInteger, primary_key=True),  # of an hour, in minutes since 1970
    Column("changes", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""How often the counts of each hour have changed: a sum of them holds as long as this is the same."""

worker_rollup = Table(
    "worker_rollup",
    metadata,
    Column("connection", Integer, primary_key=True),
    Column("start", BigInteger, primary_key=True),  # minutes since 1970
    Column("worker", Integer, primary_key=True),
    Column("completed", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

tally = Table(
    "tally",
    metadata,
    Column("connection", Integer, primary_key=True),
    Column("state", SmallInteger, primary_key=True),
    Column("jobs", BigInteger, nullable=False),
)

frame_block = Table(
    "frame_block",
    metadata,
    Column("connection", Integer, primary_key=True),
    Column("last", BigInteger, primary_key=True),  # the position of the last frame in it
    Column("body", LargeBinary, nullable=False),  # a `FrameBlock`
    sqlite_with_rowid=False,
)
"""The latest frames of each connection: what a reader of the stream that comes back has missed."""

lease = Table(
    "lease",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),  # a process, by a random text
    Column("until", BigInteger, nullable=False),
)
"""What only one of several processes may do at a time, and which of them does it."""
