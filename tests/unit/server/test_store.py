"""The store: what it writes of events, in whatever batches and order they arrive."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID
from weakref import ReferenceType, ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from sluice_agent.server.queries.labels import find_labels
from sluice_agent.server.record.frames import FrameBlock
from sluice_agent.server.record.measures import Measure
from sluice_agent.server.record.summary import walk
from sluice_agent.server.store import BatchResult, CommittedFrames, IngestBatch, Store, UnavailableError, schema
from sluice_agent.server.store.codes import JOB_STATE_CODES, WORKER_STATE_CODES
from sluice_agent.server.store.schema import LabelKind
from sluice_agent.server.store.steps import decode_step
from tests.support.examples import examples
from tests.support.waiting import wait_until
from tests.unit.server.events import CONNECTION, at, job_event, with_id
from tests.unit.server.lives import lives, plain_life, reports

DAY = "2026-02-27"
_numbers = count(1)


def now() -> datetime:
    return datetime(2026, 2, 27, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that all tests share: each has a connection of its own."""
    store = Store(tmp_path_factory.mktemp("store") / "s.db", now=now)
    yield store
    store.close()


def new_connection() -> str:
    """Return the id of a connection that no other test has."""
    return str(UUID(int=next(_numbers)))


def of_connection(connection_id: str, *events: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**event, "connectionId": connection_id} for event in events]


def send(store: Store, *events: dict[str, Any], limit: int | None = None) -> BatchResult:
    return store.submit(IngestBatch(list(events), DAY, limit)).result(30)


def rows(store: Store, table: Any, connection_id: str, *without: str) -> list[tuple[Any, ...]]:
    """Return the rows of `table` of a connection, without its number."""
    columns = [column for column in table.c if column.name not in {"connection", *without}]
    own = select(schema.connection.c.number).where(schema.connection.c.id == connection_id).scalar_subquery()
    with store.reading() as reader:
        return sorted(map(tuple, reader.execute(select(*columns).where(table.c.connection == own))), key=repr)


def counts(store: Store, table: Any, connection_id: str, width: int = 1) -> list[tuple[Any, ...]]:
    """Return those rows of a connection whose counts, the last `width` columns, are not zero."""
    return [row for row in rows(store, table, connection_id) if any(row[-width:])]


def job_of(store: Store, connection_id: str) -> Any:
    """Return the row of the only job of a connection."""
    own = select(schema.connection.c.number).where(schema.connection.c.id == connection_id).scalar_subquery()
    with store.reading() as reader:
        return reader.execute(select(schema.job).where(schema.job.c.connection == own)).all()[0]


def steps_of(store: Store, job: Any, connection_id: str) -> list[Any]:
    query = (
        select(schema.step.c.body, schema.label.c.text)
        .join(schema.label, schema.label.c.number == schema.step.c.name)
        .where(schema.step.c.job == job.number)
    )
    with store.reading() as reader:
        return [decode_step(body, connection_id, job.external_id, name) for body, name in reader.execute(query)]


@settings(max_examples=examples(60), deadline=None)
@given(lives() | reports(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_no_row(store: Store, events: list[dict[str, Any]], chance: random.Random) -> None:
    """A shipper that was offline would otherwise leave a job in a state that its events contradict, or count twice."""
    if not events:
        return
    events = [with_id(event) for event in events]
    in_order, shuffled = new_connection(), new_connection()
    send(store, *of_connection(in_order, *sorted(events, key=lambda event: event["timestamp"])))
    waiting = of_connection(shuffled, *chance.sample(events, len(events)))
    while waiting:
        size = chance.randint(1, len(waiting))
        send(store, *waiting[:size])
        waiting = waiting[size:]
    for table, width in ((schema.tally, 1), (schema.rollup, 1), (schema.worker_rollup, 2)):
        assert counts(store, table, in_order, width) == counts(store, table, shuffled, width), table.name
    without = ("number", "uuid", "fold", "parent")  # ids are those of the connection
    assert rows(store, schema.job, in_order, *without) == rows(store, schema.job, shuffled, *without)


def test_a_raw_event_is_rebuilt_as_it_came(store: Store) -> None:
    """A page that shows what a client had sent would otherwise show something else."""
    connection_id = new_connection()
    event = of_connection(connection_id, job_event("queued", 0, queue="q", extensions={"é": [1, None, {"a": 1.5}]}))[0]
    odd = {**event, "type": "job_seen", "framework": "sidekiq", "timestamp": at(1)}
    send(store, event, odd)
    job = job_of(store, connection_id)
    found = [step.event for step in steps_of(store, job, connection_id)]
    assert sorted(found, key=lambda event: event["timestamp"]) == [event, odd]


def test_a_run_keeps_two_reports_of_progress(store: Store) -> None:
    """A task that reports each second would otherwise fill the database, and slow down with each report."""
    connection_id = new_connection()
    facts = {"attempt": 1, "startedAt": at(1), "workerId": "w"}
    reports = [job_event("active", 2 + n / 10, progress=n / 100, **facts) for n in range(100)]
    events = of_connection(connection_id, job_event("active", 1, **facts), *reports)
    assert send(store, *events[:50]) == BatchResult(50, 0, 0, 50)
    assert send(store, *events[50:], *events[20:30]) == BatchResult(51, 10, 0, 101)
    job = job_of(store, connection_id)
    kept = [step.job["progress"] for step in steps_of(store, job, connection_id) if step.is_progress]
    assert sorted(kept) == [0.0, 0.99]
    assert walk(steps_of(store, job, connection_id)).summary.history.run.progress == 0.99


def test_a_list_shows_nothing_that_only_a_dropped_report_said(store: Store) -> None:
    """A filter by queue would find a job whose record names no queue."""
    facts = {"attempt": 1, "startedAt": at(1), "workerId": "w"}
    kept = [
        job_event("active", 2, progress=0.1, **facts),
        job_event("unknown", 3),
        job_event("unknown", 5),
        job_event("active", 6, progress=0.3, **facts),
    ]
    dropped = job_event("active", 4, progress=0.2, queue="slow", **facts)
    one_by_one, only_kept = new_connection(), new_connection()
    for event in of_connection(one_by_one, *kept[:2], dropped, *kept[2:]):
        send(store, event)
    send(store, *of_connection(only_kept, *kept))
    assert len(steps_of(store, job_of(store, one_by_one), one_by_one)) == len(kept)
    without = ("number", "uuid", "fold")
    assert rows(store, schema.job, one_by_one, *without) == rows(store, schema.job, only_kept, *without)


def test_a_fault_in_one_batch_leaves_the_others_whole(tmp_path: Path) -> None:
    """One client whose batch the server can't write would otherwise fail everybody who sends at the same time."""
    store = Store(tmp_path / "s.db", now=now)
    with locked(tmp_path / "s.db"):  # so that the batches wait together
        first = store.submit(IngestBatch([job_event("active", 9)], DAY))
        futures = [
            store.submit(IngestBatch(events, DAY))
            for events in (
                [job_event("active", 1)],
                [{"connectionId": CONNECTION, "job": {}}],
                [job_event("failed", 2)],
            )
        ]
    assert first.result(30).accepted == futures[0].result(30).accepted == futures[2].result(30).accepted == 1
    with pytest.raises(KeyError):
        futures[1].result(30)
    assert send(store, job_event("active", 1), job_event("failed", 2)) == BatchResult(0, 2, 0, 3)
    store.close()


class Events(list[dict[str, Any]]):
    """Events that a weak reference can be made of."""


def test_a_transaction_reads_the_batches_that_wait_one_after_the_other(tmp_path: Path) -> None:
    """The events of all clients that wait would otherwise be in memory together, in six times the size of their JSON. A
    body that can't be used fails its own client only."""
    store = Store(tmp_path / "s.db", now=now)
    references: list[ReferenceType[Events]] = []
    in_memory: list[int] = []

    def read(number: int) -> IngestBatch:
        in_memory.append(sum(reference() is not None for reference in references))
        if number == 2:
            raise UnreadableError
        events = Events([job_event("active", number, externalId=f"job-{number}")])
        references.append(ref(events))
        return IngestBatch(events, DAY)

    with locked(tmp_path / "s.db"):  # so that the batches wait together
        first = store.submit(IngestBatch([job_event("active", 9)], DAY))
        futures = [store.submit_unread(partial(read, number)) for number in range(5)]
    assert [future.result(30).accepted for future in [first, *futures[:2], *futures[3:]]] == [1] * 5
    with pytest.raises(UnreadableError):
        futures[2].result(30)
    assert max(in_memory) == 1  # the one whose rows were written last
    store.close()


class UnreadableError(Exception):
    """A body that can't be used."""


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Lock the file against writers, as another program would."""
    with sqlite3.connect(database, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_store_that_is_closed_takes_nothing(tmp_path: Path) -> None:
    """A request that comes while the server shuts down would otherwise wait for an answer that nobody gives."""
    store = Store(tmp_path / "s.db", now=now)
    store.close()
    with pytest.raises(UnavailableError):
        store.submit(IngestBatch([], DAY))


def test_positions_count_the_frames_of_a_connection(store: Store) -> None:
    """A reader of the stream that comes back would otherwise miss a change, or see one twice."""
    seen: list[CommittedFrames] = []
    store.subscribe(seen.extend)
    connection_id = new_connection()
    send(store, *of_connection(connection_id, *plain_life(1)))
    send(store, *of_connection(connection_id, *plain_life(1)))  # known: no frame
    send(store, *of_connection(connection_id, job_event("queued", 0, createdAt=at(0), externalId="other")))
    wait_until(lambda: sum(len(part.frames) for part in seen if part.connection_id == connection_id) == 7)
    own = [part for part in seen if part.connection_id == connection_id]
    sent = [(n, frame.event, frame.data) for part in own for n, frame in enumerate(part.frames, part.first)]
    assert [position for position, *_ in sent] == list(range(1, 8))
    blocks = sorted(rows(store, schema.frame_block, connection_id))
    stored = [frame for _, body in blocks for frame in FrameBlock(body)]
    assert list(enumerate(stored, 1)) == [(position, tuple(frame)) for position, *frame in sent]
    assert [last for last, _ in blocks] == [6, 7]
    states = [json.loads(data)["state"] for *_, data in sent]
    assert states == ["queued", "active", "active", "active", "active", "completed", "queued"]


def worker_event(second: float, state: str, **fields: Any) -> dict[str, Any]:
    worker = {"externalId": "celery@a", "hostname": "a", "state": state, **fields}
    kind = "worker_heartbeat" if state == "heartbeat" else "worker_state_change"
    common = {"type": kind, "timestamp": at(second), "framework": "celery", "connectionId": CONNECTION}
    return {**common, "worker": worker}


@pytest.mark.parametrize("seed", range(4))
def test_a_worker_has_its_latest_state(store: Store, seed: int) -> None:
    """A worker that has gone would otherwise stay in the list as online when its events arrive in another order."""
    connection_id = new_connection()
    events = [
        worker_event(0, "online", concurrency=4, queues=["q"]),
        worker_event(5, "heartbeat", activeJobs=3, metadata={"loadavg": [0.5, 1, 2]}),
        worker_event(9, "offline", activeJobs=0),
    ]
    for event in random.Random(seed).sample(events, 3) if seed else events:
        send(store, *of_connection(connection_id, event))
    (row,) = rows(store, schema.worker, connection_id, "worker", "body")
    start = int(datetime(2026, 2, 27, 10, tzinfo=timezone.utc).timestamp()) * 1_000_000
    end = start + 9_000_000
    assert row == (end, start, start + 5_000_000, WORKER_STATE_CODES["offline"], end, 0, 0)
    ((body,),) = rows(store, schema.worker, connection_id, *(c.name for c in schema.worker.c if c.name != "body"))
    assert json.loads(body).items() >= {"concurrency": 4, "queues": ["q"], "activeJobs": 0}.items()
    points = rows(store, schema.series, connection_id, "label", "key")
    assert sorted(points) == [
        (start, None, None, None),
        (start + 5_000_000, 3, None, 0.5),
        (start + 9_000_000, 0, None, None),
    ]


@settings(max_examples=examples(40), deadline=None)
@given(
    st.permutations(range(6)),
    st.lists(st.sampled_from(["heartbeat", "offline", "busy", "idle"]), min_size=6, max_size=6),
)
def test_the_order_of_arrival_changes_no_workers_state(store: Store, order: list[int], states: list[str]) -> None:
    """A worker that was paused would otherwise be shown as busy, if a heartbeat after its report arrived before it."""
    in_order, shuffled = new_connection(), new_connection()
    events = [worker_event(second, state) for second, state in enumerate(states)]
    send(store, *of_connection(in_order, *events))
    for number in order:
        send(store, *of_connection(shuffled, events[number]))
    found = [rows(store, schema.worker, connection_id, "worker", "body") for connection_id in (in_order, shuffled)]
    assert found[0] == found[1]
    last = [state for state in states if state != "heartbeat"][-1:] or ["online"]
    shown = "online" if last == ["offline"] and states[-1] == "heartbeat" else last[0]
    assert found[0][0][3] == WORKER_STATE_CODES[shown]


def test_counts_are_by_minute_hour_and_day(store: Store) -> None:
    """A chart of a day would otherwise disagree with that of its hours, or a month with its days."""
    connection_id = new_connection()
    send(store, *of_connection(connection_id, *plain_life(2)))
    found = rows(store, schema.rollup, connection_id, "queue", "start", "bucket")
    expected = {Measure.QUEUED: 1, Measure.STARTED: 2, Measure.RETRIED: 1, Measure.COMPLETED: 1}
    for minutes in (schema.MINUTE, schema.HOUR, schema.DAY):
        total = dict.fromkeys(expected, 0)
        for length, name, measure, number in found:
            if length == minutes and name != schema.ALL_NAMES:
                total[Measure(measure)] += number
        assert total == expected
    assert counts(store, schema.tally, connection_id) == [(JOB_STATE_CODES["completed"], 1)]


def test_the_longest_texts_are_stored_whole(store: Store) -> None:
    """A client that sends what the contract allows would otherwise be asked for ever to send it again later."""
    connection_id, chance = new_connection(), random.Random(1)

    def long(length: int) -> str:  # one that a database can't compress
        return "".join(chr(chance.randrange(0x1F300, 0x1F6FF)) for _ in range(length))

    name, worker, ids = long(1_024), long(3_000), {"rootId": long(3_000), "groupId": long(512)}
    job = job_event("active", 1, name=name, queue=long(255), workerId=long(512), extensions=ids)
    beat = {"externalId": worker, "hostname": "h", "state": "heartbeat"}
    heartbeat = {key: value for key, value in job.items() if key != "job"} | {"type": "worker_heartbeat"}
    events = of_connection(connection_id, job, heartbeat | {"worker": beat})
    assert send(store, *events) == BatchResult(2, 0, 0, 2)
    assert send(store, *events) == BatchResult(0, 2, 0, 2)
    stored = job_of(store, connection_id)
    assert (stored.root_id, stored.group_id) == (None, ids["groupId"])  # the first is longer than any id
    assert [step.event for step in steps_of(store, stored, connection_id)] == events[:1]
    with store.reading() as reader:
        assert len(find_labels(reader, LabelKind.WORKER, [worker])) == 1
