"""Queues, workers and tasks: what the pages of a dashboard show beside the jobs."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from sluice_agent.server.first_statistics import FirstStatistics
from sluice_agent.server.queries.kept_counts import KeptCounts
from sluice_agent.server.queries.sums import PastSums
from sluice_agent.server.queries.tasks import list_tasks
from sluice_agent.server.queries.window import Span, Window, window_of
from sluice_agent.server.timestamps import to_moment
from tests.support.local_sluice import local_sluice
from tests.unit.server.conftest import Start
from tests.unit.server.events import CONNECTION, TEN, Clock, at, ingest, job_event, run, snapshot, worker_event

OTHER = "550e8400-e29b-41d4-a716-446655440001"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(start: Start, clock: Clock) -> httpx.Client:
    """A client of a server with this clock."""
    return start(now=clock)


def data(client: httpx.Client, path: str, **parameters: Any) -> list[dict[str, Any]]:
    """Return the items of a list."""
    response = client.get(path, params=parameters)
    assert response.status_code == 200, response.text
    items: list[dict[str, Any]] = response.json()["data"]
    return items


@pytest.mark.parametrize(
    ("time_range", "width"),
    [("1h", 5), ("6h", 15), ("24h", 60), ("7d", 360), ("90m", 5), ("36h", 60), ("3d", 360), ("90d", 1_440)],
)
def test_a_queue_shows_its_jobs_of_the_range(client: httpx.Client, clock: Clock, time_range: str, width: int) -> None:
    """A user would otherwise not see that a queue fails, or for how long its jobs wait."""
    clock.seconds = 30 * 60
    runs = [
        *run("a", 0, "completed"),
        *run("b", 60, "completed"),
        *run("b", 120, "failed"),
        *run("c", 0, "completed", queue="other"),
    ]
    ingest(client, *runs, snapshot("mail", 5, 42, consumers=4), snapshot("idle", 5, 0))
    idle, mail, other = data(client, "/queues", timeRange=time_range)
    assert (idle["name"], idle["depth"], idle["consumers"], idle["throughput"], idle["failureRate"]) == (
        "idle",
        0,
        None,
        None,
        0,
    )
    assert (mail["name"], mail["depth"], mail["consumers"], mail["createdAt"]) == ("mail", 42, 4, at(5))
    assert mail["failureRate"] == pytest.approx(1 / 3)
    assert 700 <= mail["avgLatencyMs"] <= 1_400
    bar = mail["healthBar"]
    assert bar["timeRange"] == time_range
    assert sum(bucket["succeeded"] for bucket in bar["buckets"]) == 2
    assert sum(bucket["failed"] for bucket in bar["buckets"]) == 1
    begin, end = (datetime.fromisoformat(bar["buckets"][0][name][:-1]) for name in ("start", "end"))
    assert end - begin == timedelta(minutes=width)
    assert bar["buckets"][-1]["end"] > at(30 * 60) >= bar["buckets"][-1]["start"]
    assert (other["name"], other["depth"]) == ("other", None)


def test_queues_are_sorted_and_paged(client: httpx.Client) -> None:
    """A user with many queues would otherwise not find the longest."""
    ingest(client, *(snapshot(f"q{n}", 0, n % 4) for n in range(7)))
    answer = client.get("/queues", params={"sortBy": "depth", "sortOrder": "desc", "limit": 3, "page": 2}).json()
    assert [queue["depth"] for queue in answer["data"]] == [1, 1, 0]
    assert answer["pagination"] == {"page": 2, "limit": 3, "total": 7, "totalPages": 3}
    assert data(client, "/queues", connectionId=OTHER) == []
    assert data(client, "/queues", framework="sidekiq") == []


def test_a_worker_shows_its_last_report_and_its_rate(client: httpx.Client, clock: Clock) -> None:
    """A user would otherwise not see which workers there are, and what they do."""
    clock.seconds = 600
    about = {"pid": 17, "concurrency": 8, "queues": ["mail"], "metadata": {"pool": "prefork", "processedTotal": 12}}
    ingest(client, *run("a", 0, "completed"), *run("a", 60, "failed"), worker_event("online", 1, **about))
    ingest(client, worker_event("busy", 598, activeJobs=3))
    (worker,) = data(client, "/workers")
    assert worker | {"id": ""} == {
        "id": "",
        "externalId": "celery@w",
        "framework": "celery",
        "connectionId": CONNECTION,
        "hostname": "w",
        "pid": 17,
        "state": "busy",
        "lastHeartbeat": at(598),
        "concurrency": 8,
        "activeJobs": 3,
        "queues": ["mail"],
        "metadata": {"pool": "prefork", "processedTotal": 12},
        "taskRate": pytest.approx(2 / 60, abs=0.001),
        "processedTotal": 12,
        "extensions": {"offlineAfterSeconds": 12.5},
        "createdAt": at(1),
    }


@pytest.mark.parametrize(
    ("interval", "beats", "allowed"),
    [(None, [0, 2, 4], 6), (None, [0, 10, 20], 25), (20, [0], 50), (1, [0], 6), (None, [0], 12.5)],
)
def test_a_silent_worker_is_offline(
    client: httpx.Client, clock: Clock, interval: float | None, beats: list[float], allowed: float
) -> None:
    """A worker that crashed would otherwise look alive, or one with a slow heartbeat look dead."""
    metadata = {} if interval is None else {"metadata": {"heartbeatInterval": interval}}
    clock.seconds = beats[-1]
    ingest(client, *(worker_event("heartbeat", beat, **metadata, activeJobs=1) for beat in beats))
    clock.seconds += allowed
    assert [worker["state"] for worker in data(client, "/workers")] == ["online"]
    clock.seconds += 0.1
    (worker,) = data(client, "/workers")
    assert (worker["state"], worker["activeJobs"]) == ("offline", 0)
    assert data(client, "/workers", state="online") == []


def test_a_worker_of_the_future_counts_from_its_receipt(client: httpx.Client, clock: Clock) -> None:
    """A worker whose clock is wrong once would be online for ever, and its queues look full."""
    future = worker_event("heartbeat", 0, activeJobs=9) | {"timestamp": "2099-01-01T00:00:00.000Z"}
    ingest(client, future, snapshot("mail", 0, 42) | {"timestamp": "2099-01-01T00:00:00.000Z"})
    (worker,) = data(client, "/workers")
    assert (worker["state"], worker["activeJobs"], worker["lastHeartbeat"]) == ("online", 9, at(0))
    clock.seconds = 20
    assert [worker["state"] for worker in data(client, "/workers")] == ["offline"]
    ingest(client, worker_event("heartbeat", 20, activeJobs=1), snapshot("mail", 20, 0), future)
    (worker,) = data(client, "/workers")
    assert (worker["state"], worker["activeJobs"], worker["lastHeartbeat"]) == ("online", 1, at(20))
    assert [queue["depth"] for queue in data(client, "/queues")] == [0]


def test_a_worker_that_is_gone_leaves_the_list(client: httpx.Client, clock: Clock) -> None:
    """A list would otherwise fill with the workers of all deployments since the first."""
    clock.seconds = 3_001
    ingest(client, worker_event("online", 0, "celery@old"), worker_event("offline", 1, "celery@old"))
    ingest(client, worker_event("heartbeat", 3_000, "celery@new"))
    assert [(worker["hostname"], worker["state"]) for worker in data(client, "/workers")] == [
        ("new", "online"),
        ("old", "offline"),
    ]
    clock.seconds = 3_602
    assert [worker["hostname"] for worker in data(client, "/workers")] == ["new"]
    assert [worker["hostname"] for worker in data(client, "/workers", state="offline", sortOrder="desc")] == [
        "old",
        "new",
    ]


def test_tasks_show_counts_and_percentiles(client: httpx.Client, clock: Clock) -> None:
    """A user would otherwise not see which task is slow, or fails."""
    clock.seconds = 30 * 60
    for n in range(10):
        ingest(client, *run("a.slow", n, "failed" if n == 9 else "completed", seconds=100 if n > 7 else 10))
    ingest(client, *run("b.old", 0, "completed"), job_event("queued", 0, externalId="x", name="c.waits"))
    slow, old, waits = data(client, "/tasks", timeRange="1h")
    assert (slow["name"], slow["started"], slow["completed"], slow["failed"]) == ("a.slow", 10, 9, 1)
    assert slow["failureRate"] == pytest.approx(0.1)
    assert slow["ratePerMinute"] == pytest.approx(10 / 60, rel=0.2)
    assert 8_000 <= slow["runMs"]["p50"] <= 12_000
    assert 80_000 <= slow["runMs"]["p95"] <= slow["runMs"]["p99"] <= 135_000
    assert 700 <= slow["waitMs"]["p50"] <= 1_400
    assert (old["name"], old["completed"]) == ("b.old", 1)
    assert (waits["started"], waits["runMs"]) == (0, {"p50": None, "p95": None, "p99": None})
    clock.seconds = 3 * 3_600
    assert data(client, "/tasks", timeRange="1h") == []
    assert len(data(client, "/tasks", timeRange="6h")) == len(data(client, "/tasks", timeRange="7d")) == 3
    assert data(client, "/tasks", timeRange="24h", connectionId=OTHER) == []


def moment(seconds: float) -> str:
    """Return a timestamp `seconds` after ten o'clock, on any day."""
    return (TEN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ended(seconds: float) -> dict[str, Any]:
    """Return the end of a job."""
    job = {"externalId": f"{seconds}", "name": "a", "queue": "mail", "completedAt": moment(seconds)}
    return job_event("completed", 0, **job) | {"timestamp": moment(seconds)}


def test_a_window_between_two_moments_has_what_ended_in_it(client: httpx.Client, clock: Clock) -> None:
    """A user who looks at the minutes of an incident would otherwise see jobs of another time, or miss some."""
    chance = random.Random(7)
    days = 5
    clock.seconds = days * 86_400
    ends = sorted(chance.uniform(10, clock.seconds) for _ in range(150))
    ingest(client, *(ended(each) for each in ends))
    for _ in range(20):
        begin, end = sorted(chance.uniform(-days * 86_400, clock.seconds) for _ in range(2))
        if chance.random() < 0.5:  # in the last two days, of which each minute is known
            begin, end = sorted(clock.seconds - chance.uniform(0, 172_000) for _ in range(2))
        unit = 60 if begin >= clock.seconds - 172_800 else 3_600
        whole = begin // unit * unit, -(-end // unit) * unit
        expected = sum(whole[0] <= each < whole[1] for each in ends)
        window = {"from": moment(begin), "to": moment(end)}
        assert sum(task["completed"] for task in data(client, "/tasks", **window)) == expected
        for queue in data(client, "/queues", **window):
            bars = queue["healthBar"]["buckets"]
            assert sum(bar["succeeded"] for bar in bars) == expected
            assert (bars[0]["start"], bars[-1]["end"]) == (moment(whole[0]), moment(whole[1]))
            assert all(before["end"] == after["start"] for before, after in pairwise(bars))
            assert len(bars) <= 49


@pytest.mark.parametrize("late", [70, 3 * 3_600, 30 * 3_600, 5 * 86_400])
def test_a_late_event_changes_a_window_that_was_read_before(client: httpx.Client, clock: Clock, late: int) -> None:
    """A host that was offline would otherwise stay missing in the charts of those who had looked at them before."""
    clock.seconds = 60 * 86_400
    window = {"from": moment(clock.seconds - late - 600)}
    for number in range(3):
        ingest(client, ended(clock.seconds - late + number))
        for parameters in (window, {"timeRange": f"{late // 60 + 60}m"}, {"timeRange": "30d"}):
            assert [task["completed"] for task in data(client, "/tasks", **parameters)] == [number + 1]
            (queue,) = data(client, "/queues", **parameters)
            assert sum(bar["succeeded"] for bar in queue["healthBar"]["buckets"]) == number + 1
    ingest(client, ended(clock.seconds - late) | {"connectionId": OTHER})
    assert [task["completed"] for task in data(client, "/tasks", **window)] == [4]
    assert [task["completed"] for task in data(client, "/tasks", **window, connectionId=OTHER)] == [1]


def test_sums_of_the_past_take_bounded_memory() -> None:
    """A dashboard that asks for each minute of the past would otherwise fill the server's memory."""
    past_sums, sums = PastSums(), {(number, 1, 1): 1 for number in range(30_000)}
    for key in range(4):
        past_sums.keep(key, 1, sums)
        assert past_sums.find(0, 1) is sums
    assert [past_sums.find(key, 1) for key in range(4)] == [sums, None, sums, sums]
    assert past_sums.find(3, 2) is past_sums.find(3, 1) is None


def test_the_counts_of_hours_take_bounded_memory() -> None:
    """A server with many tasks would otherwise grow with each window that somebody looks at."""
    kept = KeptCounts(most=100)
    kinds = [kept.kind(name) for name in "ab"]
    for hour in range(3):
        kept.keep(kinds[hour % 2], (1, 60, 60 * hour), 1, [1] * 40, [(number, 1) for number in range(40)])
    assert kept.kind("b") is kinds[1]
    assert kept.kind("a") is not kinds[0]


def test_only_hours_that_have_changed_are_read_again(tmp_path: Path, clock: Clock) -> None:
    """Whoever opens the week after a restart, an hour later or while late events come would wait for all its counts."""
    clock.seconds = 10 * 86_400 + 1_800
    with local_sluice(tmp_path / "hours.db", now=clock) as server:
        store, past_sums, client = server.app.state.store, PastSums(), server.client()
        ingest(client, *(ended(clock.seconds - hours * 3_600) for hours in (0, 3, 30, 100)))
        FirstStatistics(store, past_sums, clock).read()

        def read() -> tuple[int, int]:
            """Return the completed jobs of the week, and how often counts of past hours or days were read."""
            statements: list[str] = []
            with store.reading() as reader:
                event.listen(reader, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
                (task,) = list_tasks(reader, [1], window_of(Span("7d"), to_moment(clock())), past_sums)
            return task["completed"], sum("ORDER BY rollup.start" in statement for statement in statements)

        assert read() == (4, 0)
        clock.seconds += 3_600
        assert read() == (4, 1)
        ingest(client, ended(clock.seconds - 50 * 3_600))
        assert read() == (5, 1)


@given(st.integers(0, 10_000), st.integers(1, 10_000), st.integers(0, 20_000))
def test_the_parts_of_a_window_are_each_minute_once(start: int, length: int, now: int) -> None:
    """A job would otherwise be counted twice, by its hour and by its day, or not at all."""
    window = Window("", start, start + length, 1, now * 60_000_000)
    past, present = window.past_and_present()
    minutes = [start + n for length, starts in [*past, *present] for start in starts for n in range(length)]
    assert sorted(minutes) == list(range(start, window.stop))
    assert all(start % length == 0 for length, starts in [*past, *present] for start in starts)
    assert all(starts[-1] + length <= now // 60 * 60 for length, starts in past)


@pytest.mark.parametrize(
    ("window", "wrong"),
    [
        ({"timeRange": "1w"}, "timeRange"),
        ({"timeRange": "0h"}, "timeRange"),
        ({"timeRange": "91d"}, "timeRange"),
        ({"timeRange": "999999d"}, "timeRange"),
        ({"to": moment(0)}, "to"),
        ({"from": moment(60), "to": moment(0)}, "to"),
        ({"from": moment(7_200)}, "from"),
        ({"from": moment(-91 * 86_400)}, "from"),
        ({"from": moment(-5), "to": moment(0), "timeRange": "1h"}, None),
        ({"from": "0001-01-01T00:00:00Z"}, "from"),
        ({"from": moment(0), "to": "9999-12-31T23:59:59Z"}, None),
        ({"from": "yesterday"}, "from"),
    ],
)
def test_a_window_that_can_not_be_shown_is_refused(
    client: httpx.Client, clock: Clock, window: dict[str, str], wrong: str | None
) -> None:
    """A chart would otherwise show an empty or a shorter window as if it were the one that was asked for."""
    clock.seconds = 3_600
    for path in ("/tasks", "/queues"):
        response = client.get(path, params=window)
        if wrong is None:
            assert response.status_code == 200, response.text
        else:
            assert response.status_code == 400, response.text
            assert wrong in response.json()["error"]["details"]
