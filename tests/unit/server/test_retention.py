"""What is deleted by age and size, while events arrive, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from sluice_agent.server.store import IngestBatch, Store, schema
from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.database import writing
from sluice_agent.server.store.retention import Keep
from tests.support.waiting import wait_until
from tests.unit.server.events import CONNECTION, job_event

START = datetime(2026, 2, 27, 10, tzinfo=timezone.utc)
SIZE = 8_000_000  # bytes; the latest frames and the empty tables take three of them


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_store(tmp_path: Path, clock: Clock) -> Iterator[Callable[[Keep], Store]]:
    stores: list[Store] = []

    def opened(keep: Keep) -> Store:
        stores.append(Store(tmp_path / "s.db", now=clock, keep=keep))
        return stores[-1]

    yield opened
    for store in stores:
        store.close()


def event(state: str, time: datetime, job: str, **fields: Any) -> dict[str, Any]:
    timestamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return job_event(state, 0, externalId=job, **fields) | {"timestamp": timestamp}


def send(store: Store, *events: dict[str, Any]) -> None:
    store.submit(IngestBatch(list(events), "2026-02-27")).result(30)


def jobs(store: Store) -> list[str]:
    with store.reading() as reader:
        return list(reader.scalars(select(schema.job.c.external_id).order_by(schema.job.c.created_at)))


def number_of(store: Store, table: Any) -> int:
    with store.reading() as reader:
        return reader.scalar(select(func.count()).select_from(table)) or 0


def size_of(store: Store) -> int:
    """Return the bytes of the file once the log is moved into it, which a thread does when it gets to it."""
    with store.reading() as reader:
        numbers = [reader.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")]
    return int(numbers[0] * numbers[1])


def test_ended_jobs_go_by_age_and_others_stay(open_store: Callable[[Keep], Store], clock: Clock) -> None:
    """A disk would otherwise fill up, or a task that runs for a month would vanish from the list while it runs."""
    store = open_store(Keep(age=timedelta(days=7)))
    for state in JOB_STATES:
        send(store, event(state.value, START, f"old {state.value}"))
    parts = [{"job": job, "start": 0, "states": 0, "snapshot": b"", "keys": b""} for job in range(1, 20)]
    with writing(store.engine) as connection:
        connection.execute(schema.step_part.insert(), parts)  # of these and of no other jobs
    send(store, event("queued", START, "late"), event("completed", START + timedelta(days=6), "late"))
    clock.time = START + timedelta(days=7, minutes=2)
    send(store, event("completed", clock.time, "new"))
    kept = ["old queued", "old scheduled", "old active", "old retrying", "late", "new"]
    wait_until(lambda: len(jobs(store)) == len(kept), 20, "old jobs stay")
    assert set(jobs(store)) == set(kept)
    with store.reading() as reader:
        tallies = dict(reader.execute(select(schema.tally.c.state, schema.tally.c.jobs)).all())
    assert {JOB_STATES[code].value: number for code, number in tallies.items() if number} == {
        "queued": 1, "scheduled": 1, "active": 1, "retrying": 1, "completed": 2,
    }  # fmt: skip
    assert number_of(store, schema.step) == len(kept) + 1
    assert number_of(store, schema.step_part) == len(parts) - (len(JOB_STATES) - 4)
    assert store.reaches_back_to() == START  # of "late"
    send(store, event("failed", clock.time, "old completed"))  # it is a new job: nothing of it is in memory
    assert "old completed" in jobs(store)


def test_the_leases_of_killed_processes_go(open_store: Callable[[Keep], Store], clock: Clock) -> None:
    """Each server that is killed while it sends a retry would otherwise leave a row for ever."""
    store = open_store(Keep())
    assert store.lease("retry of a killed server", 60).is_held()
    clock.time = START + timedelta(hours=2)
    assert store.lease("of a running one", 60).is_held()
    send(store, event("completed", clock.time, "new"))
    wait_until(lambda: number_of(store, schema.lease) == 1, 20, "the old lease stays")


def test_the_size_is_kept_under_ingest(open_store: Callable[[Keep], Store]) -> None:
    """A busy cluster would otherwise fill the disk before any job is a week old."""
    store = open_store(Keep(size=SIZE))
    send(store, *(event("active", START, f"runs {n}") for n in range(50)))
    largest = 0
    for batch in range(80):
        time = START + timedelta(seconds=batch)
        send(store, *(event("completed", time, f"{batch} {n}", error="x" * 100) for n in range(200)))
        largest = max(largest, size_of(store))
    assert SIZE / 2 < largest <= SIZE * 1.1
    kept = jobs(store)
    assert kept[:50] == [f"runs {n}" for n in range(50)]
    assert kept[-1].startswith("79 ")
    assert "0 0" not in kept
    oldest = store.reaches_back_to()
    assert oldest is not None
    assert oldest > START


def worker_event(time: datetime, kind: str = "worker") -> dict[str, Any]:
    subject = {"externalId": "celery@a", "hostname": "a", "state": "heartbeat", "activeJobs": 1}
    timestamp = time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    common = {"timestamp": timestamp, "framework": "celery", "connectionId": CONNECTION}
    return {**common, "type": "worker_heartbeat", "worker": subject}


def test_series_are_thinned_to_a_point_a_minute(open_store: Callable[[Keep], Store], clock: Clock) -> None:
    """Heartbeats each five seconds of a week would otherwise take more room than the jobs."""
    store = open_store(Keep(age=timedelta(days=7)))
    send(store, *(worker_event(START + timedelta(seconds=5 * n)) for n in range(240)))  # 20 minutes
    assert number_of(store, schema.series) == 240
    clock.time = START + timedelta(hours=2, minutes=10)
    send(store, worker_event(START + timedelta(minutes=20)))
    wait_until(lambda: number_of(store, schema.series) == 10 + 120 + 1, 20, "they are not thinned")
    clock.time = START + timedelta(hours=5)
    send(store, worker_event(START + timedelta(minutes=21)))
    wait_until(lambda: number_of(store, schema.series) == 22, 20, "the rest is not thinned")
    clock.time = START + timedelta(days=8)
    send(store, worker_event(clock.time))
    wait_until(lambda: number_of(store, schema.series) == 1, 20, "the old ones stay")


def test_a_point_of_1970_holds_up_no_upkeep(open_store: Callable[[Keep], Store], clock: Clock) -> None:
    """A worker that reports before its clock is set would otherwise keep the writer busy for hours, hour by hour."""
    store = open_store(Keep(age=timedelta(days=36_500)))
    first = worker_event(datetime(1970, 1, 1, tzinfo=timezone.utc))
    send(store, first, *(worker_event(START + timedelta(seconds=5 * n)) for n in range(240)))
    clock.time = START + timedelta(hours=5)
    send(store, worker_event(clock.time))
    wait_until(lambda: number_of(store, schema.series) == 1 + 20 + 1, 10, "they are not thinned")


def test_counts_of_minutes_go_before_those_of_hours_and_days(open_store: Callable[[Keep], Store], clock: Clock) -> None:
    """A chart of three months would otherwise be empty, or the counts of its minutes fill the disk."""
    store = open_store(Keep())
    send(store, event("completed", START, "a", startedAt="2026-02-27T09:59:59.000Z"))

    def lengths() -> set[int]:
        with store.reading() as reader:
            return set(reader.scalars(select(schema.rollup.c.minutes)))

    assert lengths() == {schema.MINUTE, schema.HOUR, schema.DAY}
    for days, expected in ((3, {schema.HOUR, schema.DAY}), (92, set())):
        clock.time = START + timedelta(days=days)
        send(store, event("active", START, f"{days}"))
        wait_until(lambda expected=expected: lengths() == expected, 20, "they stay")  # type: ignore[misc]
    assert number_of(store, schema.usage) == number_of(store, schema.rollup_change) == 0
    assert "a" in jobs(store)


def test_a_time_in_the_future_does_not_keep_a_job(open_store: Callable[[Keep], Store], clock: Clock) -> None:
    """The jobs of a host whose clock is wrong by years would stay until the disk is full."""
    store = open_store(Keep(age=timedelta(days=7)))
    future = START + timedelta(days=30_000)
    send(store, event("completed", future, "old"), event("active", future, "runs"), event("active", future, "late"))
    clock.time = START + timedelta(days=3)
    send(store, event("failed", future + timedelta(seconds=1), "late"))
    clock.time = START + timedelta(days=7, minutes=2)
    send(store, event("completed", future, "new"))
    wait_until(lambda: "old" not in jobs(store), 20, "an old job stays")
    assert set(jobs(store)) == {"runs", "late", "new"}
    assert number_of(store, schema.future_job) == 3
    clock.time = START + timedelta(days=10, minutes=4)
    send(store, event("completed", clock.time, "now"))
    wait_until(lambda: "late" not in jobs(store), 20, "the late one stays")
    assert set(jobs(store)) == {"runs", "new", "now"}


def test_a_job_of_the_future_is_counted_once(tmp_path: Path, open_store: Callable[[Keep], Store], clock: Clock) -> None:
    """Where the size is too large, the numbers of jobs on the pages would fall below those in the lists."""
    with closing(Store(tmp_path / "s.db", now=clock)) as before:
        send(before, event("completed", START + timedelta(days=30_000), "future"))
    clock.time = START + timedelta(days=2)
    store = open_store(Keep(size=1))
    wait_until(lambda: not jobs(store), 20, "the size is not kept")
    with store.reading() as reader:
        assert list(reader.scalars(select(schema.tally.c.jobs))) == [0]
