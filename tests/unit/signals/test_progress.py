"""The progress that a task reports, by our function or by Celery's convention, and the end that it stores itself."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from celery.exceptions import Ignore

from sluice_agent.signals.progress import Progress
from tests.unit.signals.observed import Observed, app, executing, task


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def progress(observed: Observed) -> Progress:
    progress = Progress(observed.sink, observed.recorder)
    progress.patch_update_state()
    progress.patch_stored_ends()
    return progress


@pytest.mark.usefixtures("progress")
@pytest.mark.parametrize(
    ("meta", "fraction"),
    [
        ({"current": 3, "total": 10}, 0.3),
        ({"current": 11, "total": 10}, 1.0),
        ({"current": -1, "total": 10}, 0.0),
        ({"current": 10**400, "total": 1}, 1.0),
        ({"current": -(10**400), "total": 1}, 0.0),
        ({"current": 10**400, "total": 2 * 10**400}, 0.5),
        ({"current": 1, "total": inf}, 0.0),
        ({"current": 1, "total": 0}, None),
        ({"current": 1, "total": nan}, None),
        ({"current": nan, "total": 10}, None),
        ({"current": "1", "total": 2}, None),
        ({"total": 2}, None),
        (None, None),
    ],
)
def test_a_ratio_of_any_two_numbers(observed: Observed, meta: Any, fraction: float | None) -> None:
    """Without it a task fails for its progress bar, or is shown as done after it has reported nonsense."""
    with executing():
        observed.task_process.prerun(task=task)
        task.update_state(state="PROGRESS", meta=meta)
    assert observed.last.get("progress") == fraction
    assert observed.dropped == []


@pytest.mark.parametrize(("fraction", "reported"), [(0.5, 0.5), (7, 1.0), (-7, 0.0), (nan, None), ("half", None)])
def test_a_fraction_that_a_task_reports(
    observed: Observed, progress: Progress, fraction: Any, reported: float | None
) -> None:
    """A task that reports nonsense must neither fail nor be shown as done."""
    with executing():
        observed.task_process.prerun(task=task)
        progress.report(fraction)
    assert observed.last.get("progress") == reported


def test_outside_of_a_task_there_is_no_progress(observed: Observed, progress: Progress) -> None:
    """A function that a task and a program share must not fail in the program."""
    progress.report(0.5)
    assert (observed.jobs, observed.dropped) == ([], [])


@pytest.mark.usefixtures("progress")
def test_the_state_of_another_job_is_not_that_of_the_run(observed: Observed) -> None:
    """A task that marks another job as failed would be shown as failed."""
    with executing():
        observed.task_process.prerun(task=task)
        task.update_state(task_id="other", state="FAILURE", meta={"exc_message": "boom"})
        observed.task_process.postrun(task=task, state="IGNORED", retval=Ignore())
    assert observed.walk == "active completed"


@pytest.mark.usefixtures("progress")
@pytest.mark.parametrize("is_stored_in_backend", [True, False])
def test_an_end_that_a_task_stores_before_it_ignores_itself(observed: Observed, is_stored_in_backend: bool) -> None:
    """Celery leaves it: the job's caller gets a failure, and the job would be shown as completed."""
    with executing():
        observed.task_process.prerun(task=task)
        if is_stored_in_backend:
            app.backend.store_result("job", ValueError("boom"), "FAILURE")
        else:
            task.update_state(state="FAILURE", meta={"exc_type": "ValueError", "exc_message": "boom"})
        observed.task_process.postrun(task=task, state="IGNORED", retval=Ignore())
    assert (observed.walk, observed.last["error"]) == ("active failed", "ValueError: boom")
