"""What jobs add to the counts by minute, task and queue, from which rates and percentiles are made."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_agent.server.record.measures import Count, Measure, WorkerCount, bounds_of, bucket_of, changes_of_walk
from sluice_agent.server.record.summary import walk
from tests.support.records import steps_of
from tests.unit.server.events import at, job_event

TEN = 29_536_440  # ten o'clock of the events, in minutes since 1970
NAME = "app.tasks.send_email"


def counted(*events: dict[str, Any]) -> dict[tuple[Any, ...], int]:
    """Return the counts of a job as (minutes after ten, measure, bucket), or (minutes, measure, worker)."""
    shown: dict[tuple[Any, ...], int] = {}
    for count, number in changes_of_walk(None, walk(steps_of(events))).items():
        if isinstance(count, Count):
            assert (count.name, count.queue) == (NAME, None)
        last = count.bucket if isinstance(count, Count) else count.worker
        shown[count.minute - TEN, count.measure, last] = number
    return shown


def test_a_job_is_counted_as_it_is_published_starts_and_ends() -> None:
    """Rates and durations would otherwise be shown for another minute than the one in which they were."""
    life = [
        job_event("queued", 59, createdAt=at(59)),
        job_event("active", 61, startedAt=at(61), workerId="celery@a"),
        job_event("completed", 122, startedAt=at(61), completedAt=at(122), workerId="celery@a"),
    ]
    assert counted(*life) == {
        (0, Measure.QUEUED, 0): 1,
        (1, Measure.STARTED, bucket_of(2_000)): 1,
        (2, Measure.COMPLETED, bucket_of(61_000)): 1,
        (2, Measure.COMPLETED, "celery@a"): 1,
    }


def test_each_attempt_is_counted() -> None:
    """A task that is retried all the time would otherwise look idle."""
    life = [
        job_event("queued", 0, createdAt=at(0), attempt=1),
        job_event("active", 1, attempt=1, workerId="celery@a"),
        job_event("retrying", 2, attempt=1, workerId="celery@a"),
        job_event("scheduled", 2, attempt=2, extensions={"eta": at(62)}),
        job_event("active", 64, attempt=2, workerId="celery@b"),
        job_event("failed", 65, attempt=2, workerId="celery@b"),
    ]
    second = bucket_of(1_000)
    assert counted(*life) == {
        (0, Measure.QUEUED, 0): 2,
        (0, Measure.STARTED, second): 1,
        (0, Measure.RETRIED, second): 1,
        (1, Measure.STARTED, bucket_of(2_000)): 1,  # it was not to start before its ETA
        (1, Measure.FAILED, second): 1,
        (1, Measure.FAILED, "celery@b"): 1,
    }


def test_a_correction_takes_the_first_end_away() -> None:
    """A job that was reported lost, and completed, would otherwise be counted as failed too."""
    lost = job_event("failed", 60, startedAt=at(1), workerId="celery@a"), job_event("completed", 61, startedAt=at(1))
    assert counted(*lost) == {
        (0, Measure.STARTED, 0): 1,
        (1, Measure.COMPLETED, bucket_of(60_000)): 1,
        (1, Measure.COMPLETED, "celery@a"): 1,
    }


def test_a_dispatch_that_is_reported_late_gives_the_wait() -> None:
    """Producers whose reports come after the worker's would otherwise have no waiting time."""
    events = job_event("active", 4, startedAt=at(4)), job_event("queued", 4.5, createdAt=at(3))
    assert counted(*events) == {(0, Measure.QUEUED, 0): 1, (0, Measure.STARTED, bucket_of(1_000)): 1}


def test_a_dispatch_that_is_reported_after_two_runs_is_not_counted_with_the_second() -> None:
    """The second run would otherwise seem to have waited since before the first."""
    runs = [job_event("active", 10, attempt=1), job_event("failed", 20, attempt=1), job_event("active", 30, attempt=2)]
    assert counted(*runs, job_event("queued", 40, createdAt=at(5))) == counted(*runs)


def test_an_unknown_duration_has_the_bucket_0() -> None:
    """Percentiles would otherwise be drawn towards zero by jobs whose start nobody saw."""
    assert counted(job_event("failed", 1)) == {(0, Measure.FAILED, 0): 1}


def test_a_worker_is_counted_only_where_a_run_names_it() -> None:
    """An end without a worker would otherwise be counted for the worker of the run before."""
    events = [
        job_event("active", 1, attempt=1, workerId="celery@a"),
        job_event("retrying", 2, attempt=1, workerId="celery@a"),
        job_event("failed", 3, attempt=2),
    ]
    assert not [count for count in changes_of_walk(None, walk(steps_of(events))) if isinstance(count, WorkerCount)]


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 3, 7, 999, 1_000, 86_400_000, 10**9, 10**12])
def test_a_duration_is_within_the_bounds_of_its_bucket(milliseconds: int) -> None:
    """A percentile would otherwise be another duration than any that was measured."""
    low, high = bounds_of(bucket_of(milliseconds))
    assert low <= milliseconds
    assert high is None or milliseconds < high


def test_the_bounds_of_buckets_adjoin() -> None:
    """A percentile could otherwise fall between two buckets. Stored numbers would change their meaning with them."""
    last = bucket_of(10**15)
    bounds = [bounds_of(bucket) for bucket in range(1, last + 1)]
    assert [high for _, high in bounds[:-1]] == [low for low, _ in bounds[1:]]
    assert (last, bounds[0], bounds[1], bounds[-1]) == (61, (0, 1), (1, 2), (2**30, None))
