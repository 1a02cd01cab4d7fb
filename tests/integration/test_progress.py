"""How a running task says how far it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess


def told_of(endpoint: Endpoint, job: str) -> list[float]:
    """The progress that was told of a job, in its order."""
    return [event["job"]["progress"] for event in endpoint.jobs().get(job, []) if "progress" in event["job"]]


@pytest.mark.parametrize("task", ["progress", "progress_by_state"])
def test_the_first_and_the_last_word_are_told_and_few_between(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer], task: str
) -> None:
    """Without it a loop of a thousand steps costs its user a thousand events, or ends at 97 per cent for ever."""
    worker = start_worker()
    job = producer().send(task, 1_000)
    wait_until(lambda: endpoint.states(job)[-1:] == ["completed"], 30, "the task did not end", worker.tail)
    told = told_of(endpoint, job)
    seconds = endpoint.jobs()[job][-1]["job"]["extensions"]["runtime"]
    assert told[0] == pytest.approx(0.001)
    assert told[-1] == 1.0
    assert told == sorted(told)
    assert len(told) <= 2 + seconds


def test_what_is_no_fraction_does_no_harm(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Without it a division by nothing in a progress bar ends the task that it adorns."""
    worker = start_worker()
    job = producer().send("strange_progress")
    wait_until(lambda: endpoint.states(job)[-1:] == ["completed"], 20, "the task did not end", worker.tail)
    assert set(told_of(endpoint, job)) <= {0.0, 1.0}


def test_a_task_that_has_ended_makes_no_more_progress(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Without it a job that has failed is shown as active for ever, because its hooks still tell how far it was."""
    worker = start_worker()
    job = producer().send("late_progress")
    wait_until(lambda: endpoint.states(job)[-1:] == ["failed"], 20, "the task did not end", worker.tail)
    assert worker.terminate().code == 0
    assert endpoint.states(job) == ["queued", "active", "failed"]
