"""A running task reports its progress."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess


def progress_of(endpoint: Endpoint, job: str) -> list[float]:
    """Return the reported progress of a job, in order."""
    return [event["job"]["progress"] for event in endpoint.jobs().get(job, []) if "progress" in event["job"]]


@pytest.mark.parametrize("task", ["progress", "progress_by_state"])
def test_the_first_and_the_last_progress_are_reported_and_few_between(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer], task: str
) -> None:
    """Otherwise a loop of a thousand steps would cost a thousand events, or stay at 97 per cent for ever."""
    worker = start_worker()
    job = producer().send(task, 1_000)
    wait_until(lambda: endpoint.states(job)[-1:] == ["completed"], 30, "the task did not end", worker.tail)
    fractions = progress_of(endpoint, job)
    seconds = endpoint.jobs()[job][-1]["job"]["extensions"]["runtime"]
    assert fractions[0] == pytest.approx(0.001)
    assert fractions[-1] == 1.0
    assert fractions == sorted(fractions)
    assert len(fractions) <= 2 + seconds


def test_a_value_that_is_no_fraction_does_no_harm(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Otherwise a division by zero in the progress would end the task."""
    worker = start_worker()
    job = producer().send("strange_progress")
    wait_until(lambda: endpoint.states(job)[-1:] == ["completed"], 20, "the task did not end", worker.tail)
    assert set(progress_of(endpoint, job)) <= {0.0, 1.0}


def test_a_task_that_has_ended_makes_no_more_progress(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Otherwise a failed job would be shown as active for ever, because its hooks still report progress."""
    worker = start_worker()
    job = producer().send("late_progress")
    wait_until(lambda: endpoint.states(job)[-1:] == ["failed"], 20, "the task did not end", worker.tail)
    assert worker.terminate().code == 0
    assert endpoint.states(job) == ["queued", "active", "failed"]
