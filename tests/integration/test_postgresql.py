"""A store on PostgreSQL: what it writes, alone and beside others, and what becomes of it without its connections."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import event, func, select, text

from sluice_agent.errors import ConfigError
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.job_steps import MOST_STATES, JobSteps
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.plan import Limits, find_keys
from sluice_agent.server.queries.selection import known_connections, select_jobs
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.queries.stored_job import find_head
from sluice_agent.server.queries.stored_job import steps_of as all_steps_of
from sluice_agent.server.record.frames import FrameBlock
from sluice_agent.server.record.record import record_of, record_of_walk, state_history
from sluice_agent.server.store import CommittedFrames, IngestBatch, Store, schema
from sluice_agent.server.store.codes import JOB_STATE_CODES
from sluice_agent.server.store.migrate import upgrade
from sluice_agent.server.store.postgresql import PostgresqlDriver
from sluice_agent.server.store.postgresql_database import connect_postgresql
from sluice_agent.server.store.retention import Keep
from tests.support.tables import tables_of
from tests.support.waiting import wait_until
from tests.unit.server.events import at, job_event
from tests.unit.server.test_store import (  # the same tests, here on the store below
    counts,
    job_of,
    new_connection,
    now,
    of_connection,
    rows,
    send,
    steps_of,
    test_a_raw_event_is_rebuilt_as_it_came,
    test_a_run_keeps_two_reports_of_progress,
    test_a_worker_has_its_latest_state,
    test_counts_are_by_minute_hour_and_day,
    test_positions_count_the_frames_of_a_connection,
    test_the_longest_texts_are_stored_whole,
    test_the_order_of_arrival_changes_no_row,
)

__all__ = [
    "test_a_raw_event_is_rebuilt_as_it_came",
    "test_a_run_keeps_two_reports_of_progress",
    "test_a_worker_has_its_latest_state",
    "test_counts_are_by_minute_hour_and_day",
    "test_positions_count_the_frames_of_a_connection",
    "test_the_longest_texts_are_stored_whole",
    "test_the_order_of_arrival_changes_no_row",
]


@pytest.fixture(scope="module")
def store(postgresql: str) -> Iterator[Store]:
    """A store that the tests share."""
    store = Store(postgresql, now=now)
    yield store
    store.close()


@pytest.fixture(scope="module")
def other(postgresql: str, store: Store) -> Iterator[Store]:
    """A second store on the same database, as of another process."""
    other = Store(postgresql, now=now)
    yield other
    other.close()


def life(job: int) -> list[dict[str, Any]]:
    """Return the events of a job, of which its producer reports the first and its worker the others."""
    facts = {"externalId": f"job-{job}", "name": f"app.task_{job % 7}", "queue": "q"}
    run = {"startedAt": at(1), "workerId": f"celery@{job % 3}"}
    end = {"failed": {"error": "ValueError: no"}, "completed": {"completedAt": at(2)}}
    state = "failed" if job % 5 == 0 else "completed"
    return [
        job_event("queued", 0, createdAt=at(0), **facts),
        job_event("active", 1, **facts, **run),
        job_event(state, 2, **facts, **run, **end[state]),
    ]


def listen(store: Store, connection_id: str) -> list[tuple[int, str]]:
    """Return the positions and data of the connection's frames, a list that grows."""
    seen: list[tuple[int, str]] = []

    def receive(committed: Sequence[CommittedFrames]) -> None:
        for part in committed:
            if part.connection_id == connection_id:
                seen.extend((position, frame.data) for position, frame in enumerate(part.frames, part.first))

    store.subscribe(receive)
    return seen


def send_at_once(stores: Sequence[Store], batches: Sequence[list[dict[str, Any]]]) -> None:
    """Send the batches, each part of them by a thread to a store of its own."""
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for batch in batches[number :: len(stores)]:
                send(stores[number], *batch)
        except BaseException as error:  # noqa: BLE001 - shown below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_stores_that_write_the_same_jobs_at_once_write_what_one_alone_does(
    store: Store, other: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """A producer and a worker that send to two servers would otherwise have jobs twice, half, or counted wrongly; and
    the log would have a line for each collision."""
    alone, together = new_connection(), new_connection()
    lives = [life(job) for job in range(140)]  # more than one statement takes at first
    for kind in range(3):
        send(store, *of_connection(alone, *(events[kind] for events in lives)))
    mixed = [lives[job][(job + kind) % 3] for kind in range(3) for job in range(140)]
    batches = [of_connection(together, *mixed[start : start + 28]) for start in range(0, len(mixed), 28)]
    seen, seen_by_other = listen(store, together), listen(other, together)
    # Each batch is sent by both, at about the same time: one of them adds an event, the other skips it.
    send_at_once([store, other], [batch for batch in batches for _ in range(2)])
    for table, width in ((schema.tally, 1), (schema.rollup, 1), (schema.worker_rollup, 2)):
        assert counts(store, table, together, width) == counts(store, table, alone, width), table.name
    columns = "number", "uuid"
    assert rows(store, schema.job, together, *columns) == rows(store, schema.job, alone, *columns)
    assert counts(store, schema.usage, together) == counts(store, schema.usage, alone) == [("2026-02-27", 420)]
    blocks = sorted(rows(store, schema.frame_block, together))
    stored = [frame.data for _, body in blocks for frame in FrameBlock(body)]
    wait_until(lambda: len(seen) == len(seen_by_other) == len(stored))
    assert seen == seen_by_other == list(enumerate(stored, 1))
    assert [position for position, _ in seen] == list(range(1, len(stored) + 1))
    assert [record.getMessage() for record in caplog.records] == []


def test_a_store_sees_what_another_has_written_of_a_job_that_it_remembers(store: Store, other: Store) -> None:
    """A job whose events go to two servers in turn would otherwise be shown in an older state, or count an event
    twice."""
    connection_id = new_connection()
    queued, active, completed = life(1)
    progress = [
        active | {"timestamp": at(1 + share), "job": active["job"] | {"progress": share}} for share in (0.1, 0.3, 0.2)
    ]
    writes = [(store, queued), (other, active), (store, queued), (store, active)]
    writes += [(store, progress[0]), (other, progress[1]), (store, progress[2]), (store, completed), (other, completed)]
    results = [send(server, *of_connection(connection_id, event)) for server, event in writes]
    assert [result.accepted for result in results] == [1, 1, 0, 0, 1, 1, 0, 1, 0]
    assert job_of(store, connection_id).state == JOB_STATE_CODES["completed"]
    assert counts(store, schema.tally, connection_id) == [(JOB_STATE_CODES["completed"], 1)]


@pytest.mark.usefixtures("store")  # makes the tables
def test_a_writer_that_has_lost_excludes_the_others(postgresql: str) -> None:
    """Of two busy servers one would otherwise lose again and again, and answer with 503 though nothing is wrong."""
    loser, other = (PostgresqlDriver(lambda: connect_postgresql(postgresql)) for _ in range(2))
    has_written = threading.Event()

    def write() -> None:
        with other.transaction():
            other.version()
        has_written.set()

    with loser.transaction(excludes_others=True):
        loser.version()
        thread = threading.Thread(target=write)
        thread.start()
        with connect_postgresql(postgresql) as observer:
            query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
            wait_until(lambda: has_written.is_set() or observer.execute(query).fetchone() != (0,))
        assert not has_written.is_set()
    thread.join()
    assert has_written.is_set()
    for driver in (loser, other):
        driver.close()


def test_migrations_make_the_tables_of_a_new_database(store: Store) -> None:
    """A column that only new databases have would otherwise make the first write of an older installation fail."""
    made = tables_of(store.engine)
    with store.engine.connect() as connection:
        connection.exec_driver_sql("CREATE SCHEMA migrated")
        connection.exec_driver_sql("SET LOCAL search_path TO migrated")
        connection.dialect.default_schema_name = "migrated"
        upgrade(connection)
        migrated = tables_of(connection)
        connection.dialect.default_schema_name = "public"
        connection.rollback()
    assert migrated == made


def test_the_daily_limit_holds_for_all_servers_together(store: Store, postgresql: str) -> None:
    """A limit that protects the disk would otherwise be exceeded by what each server accepts at the same moment."""
    connection_id = new_connection()
    first, *others = of_connection(connection_id, *(job_event("queued", 0, externalId=f"job-{n}") for n in range(3)))
    send(store, first)
    with psycopg.connect(postgresql) as another:  # it has written 23 events more, and not committed them yet
        own = "connection = (SELECT number FROM connection WHERE id = %s)"
        another.execute(f"UPDATE usage SET events = 24 WHERE {own}".encode(), [connection_id])
        batch = store.submit(IngestBatch(others, "2026-02-27", limit=25))
        wait_until(lambda: waiting_for_locks(store) == 1, 10)
        another.commit()
    assert (batch.result(10).accepted, batch.result(10).truncated) == (1, 1)


def waiting_for_locks(store: Store) -> int:
    """Return how many connections to the database wait for another one."""
    with store.reading() as reader:
        waiting = "datname = current_database() AND wait_event_type = 'Lock'"
        return int(reader.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE {waiting}")) or 0)


def test_a_text_with_nul_is_stored(store: Store) -> None:
    """PostgreSQL refuses the character, and the batch with it: one traceback would keep a journal from being sent."""
    connection_id = new_connection()
    event = job_event(
        "failed", 1, name="a\0b", queue="q\0", error="E: \0", externalId="job\0", extensions={"rootId": "\0"}
    )
    assert send(store, *of_connection(connection_id, event)).accepted == 1
    job = job_of(store, connection_id)
    assert (job.external_id, job.error, job.root_id) == ("job␀", "E: ␀", "␀")
    (step,) = steps_of(store, job, connection_id)
    assert (step.job["name"], step.job["error"], step.job["queue"]) == ("a␀b", "E: \0", "q\0")
    assert send(store, *of_connection(connection_id, event)).skipped == 1


def test_the_largest_numbers_are_stored(store: Store) -> None:
    """psycopg cuts a number that is too large for its column, without an error."""
    connection_id, largest, deepest = new_connection(), 2**31 - 1, 2**63 - 1
    queue = {"type": "queue_snapshot", "timestamp": at(0), "framework": "celery"}
    queue |= {"queue": {"name": "q", "depth": deepest, "consumers": largest}}
    worker = {"type": "worker_heartbeat", "timestamp": at(0), "framework": "celery"}
    worker |= {"worker": {"externalId": "w", "hostname": "w", "state": "busy", "activeJobs": largest}}
    send(store, *of_connection(connection_id, job_event("active", 1, attempt=largest), queue, worker))
    assert job_of(store, connection_id).attempt == largest
    ((depth, consumers),) = rows(store, schema.queue, connection_id, "queue", "at", "first_seen", "framework")
    assert (depth, consumers) == (deepest, largest)
    assert sorted(row[3] for row in rows(store, schema.series, connection_id)) == [largest, deepest]
    columns = [column.name for column in schema.worker.c if column.name != "active_jobs"]
    assert rows(store, schema.worker, connection_id, *columns) == [(largest,)]


def test_frames_arrive_though_the_connections_of_the_listener_are_lost(
    store: Store, other: Store, postgresql: str
) -> None:
    """A page would otherwise stand still after PostgreSQL was restarted, until the server is restarted too."""
    connection_id = new_connection()
    seen = listen(other, connection_id)
    send(store, *of_connection(connection_id, *life(1)))
    end_connections(postgresql, "query LIKE 'LISTEN%' OR query LIKE '%FROM connection'")
    send(store, *of_connection(connection_id, *life(2)))
    wait_until(lambda: len(seen) == 6, 5)
    send(store, *of_connection(connection_id, *life(3)))
    wait_until(lambda: len(seen) == 9, 5)
    assert all(second - first == 1 for (first, _), (second, _) in pairwise(seen))


def test_frames_arrive_after_a_listener_has_failed(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """One fault would otherwise stop the streams of all connections until the server is restarted."""
    faults = [RuntimeError("a fault of the listener")]

    def fail(_: Sequence[CommittedFrames]) -> None:
        if faults:
            raise faults.pop()

    connection_id = new_connection()
    store.subscribe(fail)
    seen = listen(store, connection_id)
    send(store, *of_connection(connection_id, *life(1)))
    send(store, *of_connection(connection_id, *life(2)))
    wait_until(lambda: len(seen) == 6, 5)
    assert "a fault of the listener" in caplog.text


def test_a_writer_whose_connections_are_lost_writes_again(store: Store, postgresql: str) -> None:
    """Each restart of PostgreSQL would otherwise need one of every server."""
    connection_id = new_connection()
    send(store, *of_connection(connection_id, *life(1)))
    end_connections(postgresql, "true")

    def is_written() -> bool:
        return send(store, *of_connection(connection_id, *life(2))).skipped == 3

    wait_until(is_written, 5)  # until then a client gets a 503, and sends again
    assert len(rows(store, schema.job, connection_id)) == 2


def end_connections(address: str, condition: str) -> None:
    """End the connections of the stores to the database, as its restart does."""
    query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"{query} AND pid <> pg_backend_pid()".encode())


def test_one_of_two_stores_deletes_old_jobs(new_postgresql: str) -> None:
    """Two servers that delete at the same time would otherwise subtract a job twice from the tallies."""
    clock = datetime(2026, 2, 27, 10, tzinfo=timezone.utc)

    def time() -> datetime:
        return clock

    keep = Keep(age=timedelta(days=7))
    first, second = Store(new_postgresql, now=time, keep=keep), Store(new_postgresql, now=time, keep=keep)
    connection_id = new_connection()
    running = job_event("active", 1, externalId="running")
    future = job_event("completed", 1, externalId="future") | {"timestamp": "2099-01-01T00:00:00.000Z"}
    send(first, *of_connection(connection_id, *life(1), *life(5), running, future))
    clock += timedelta(days=8)

    def left() -> list[str]:
        with first.reading() as reader:
            return list(reader.scalars(select(schema.job.c.external_id)))

    wait_until(lambda: left() == ["running"], 10)
    assert Counter(dict(counts(first, schema.tally, connection_id))).total() == 1
    with first.reading() as reader:
        assert reader.scalar(select(func.count()).select_from(schema.step)) == 1
        (holder,) = reader.scalars(select(schema.lease.c.holder))
    first.close()
    second.close()
    assert holder


def test_the_size_is_that_of_the_rows_that_are_left(new_postgresql: str) -> None:
    """PostgreSQL's files never shrink: measured by them, the deletion would go on until no job is left."""
    store = Store(new_postgresql, now=now)
    events = [event for job in range(1_000) for event in life(job)]
    send(store, *of_connection(new_connection(), *events))
    with psycopg.connect(new_postgresql, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        driver = PostgresqlDriver(lambda: connect_postgresql(new_postgresql))
        before = driver.used_bytes()
        with driver.transaction():
            ended = driver.oldest_jobs(1, JOB_STATE_CODES["completed"], 2**62, 1_000)
            driver.delete_jobs([job.number for job in ended])
        estimated = driver.used_bytes()
        driver.close()
        connection.execute("VACUUM ANALYZE")
        driver = PostgresqlDriver(lambda: connect_postgresql(new_postgresql))
        measured = driver.used_bytes()
        driver.close()
    store.close()
    assert len(ended) == 800
    assert 0.15 * before < estimated < 0.3 * before
    assert 0 < measured < 0.5 * before  # frames are left


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE auth_user (id integer)", "CREATE TABLE alembic_version AS SELECT 'feed00000001' AS version_num"],
)
def test_a_database_of_another_program_is_left_alone(new_postgresql: str, statement: str) -> None:
    """A shop whose database is named by mistake would otherwise get 24 tables more, and its size would have all jobs
    deleted."""
    with psycopg.connect(new_postgresql) as connection:
        connection.execute(statement.encode())
    with pytest.raises(ConfigError, match="or of another program"):
        Store(new_postgresql, now=now)
    with psycopg.connect(new_postgresql) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("postgresql://user:secret@127.0.0.1:1/none", "refused"),
        ("postgresql://user:secret@127.0.0.1:port/none", "check --database"),
    ],
)
def test_an_address_that_can_not_be_used(address: str, reason: str) -> None:
    """A typing error would otherwise end in a traceback, or show the password in a log."""
    with pytest.raises(ConfigError, match=reason) as raised:
        Store(address, now=now)
    assert "secret" not in str(raised.value)


def test_a_job_of_many_steps_is_read_by_its_parts(store: Store) -> None:
    """A task that is retried for days would take seconds at each look."""
    id_ = new_connection()
    states = ("queued", "active", "retrying")
    steps = [job_event(states[n % 3], n / 100, attempt=n // 3 + 1, queue="q", event_id=str(n)) for n in range(1_700)]
    for batch in (steps[:900], steps[900:1_650], steps[1_650:]):
        send(store, *of_connection(id_, *batch))
    with store.reading() as reader:
        head = find_head(reader, {id_: known_connections(reader, None)[id_]}, "job-1")
        assert head is not None
        read = JobSteps(reader, head)
        record, expected = record_of_walk(read.walked), record_of(all_steps_of(reader, head))
        window, earlier = read.window(), read.window(200)
    assert read.walked.earlier
    history = expected.pop("stateHistory")
    assert record.pop("stateHistory") == history[read.walked.earlier :]
    assert record == expected
    assert (window.total, len(window.states), len(earlier.states)) == (1_700, MOST_STATES, 200)
    assert state_history(earlier.states) == history[:200]


def test_a_list_takes_few_statements_which_stay_prepared(store: Store) -> None:
    """Lists of jobs in many states would slow down with each round trip, and with each statement planned anew."""
    id_ = new_connection()
    send(store, *of_connection(id_, *[event for job in range(20) for event in life(job)][:-1]))
    statements: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda _connection, _cursor, text, *_: statements.append(text))
    order, limits = Order(SortBy.STARTED_AT, SortOrder.DESC), Limits(read_all=1)
    for _ in range(7):
        statements.clear()
        with store.reading() as reader:
            selection = select_jobs(reader, known_connections(reader, None), JobFilter(connection_id=UUID(id_)), 0)
            keys, _ = find_keys(reader, selection, order, None, 5, limits)
            prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%job.started_at%'"
            count = reader.scalar(text(prepared))
    assert len(keys) == 6
    assert len(statements) <= 5, statements  # connections, counts of states, the largest range, the others, and `count`
    assert count >= 2
