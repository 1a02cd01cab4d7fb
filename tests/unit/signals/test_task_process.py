"""A run begins, and ends in a way that has no signal of its own."""

from __future__ import annotations

import pytest
from celery.exceptions import Ignore, Reject, Retry

from sluice_agent.signals.agent_header import RUN
from sluice_agent.signals.current_runs import begin_execution, end_execution
from tests.unit.signals.observed import Observed, executing, late, task


def test_a_run_that_returns_is_active_and_then_completed() -> None:
    """A user would see no job at all."""
    observed = Observed()
    with executing():
        observed.task_process.prerun(task=task)
        observed.task_process.prerun(task=task)  # an interrupted handler runs again
        observed.task_process.postrun(task=task, state="SUCCESS", retval=3)
    assert observed.walk == "active completed"
    assert (observed.last["name"], observed.last["queue"], observed.last["attempt"]) == (task.name, "celery", 1)
    assert "result" not in observed.last


def test_a_result_is_captured_through_the_users_function() -> None:
    """Secrets in a result would be sent, or a user who asks for results gets none."""
    observed = Observed(redact=lambda name, value: f"{name} {value}")
    with executing():
        observed.task_process.prerun(task=task)
        observed.task_process.postrun(task=task, state="SUCCESS", retval=3)
    assert observed.last["result"] == "result 3"


@pytest.mark.parametrize(
    ("retval", "state", "walk"),
    [
        (Ignore(), "IGNORED", "active completed"),
        (Ignore("Replaced by new task"), "IGNORED", "active"),
        (Reject("no", requeue=False), "REJECTED", "active failed"),
        (Reject("again", requeue=True), "REJECTED", "active failed"),
        (ValueError("reported by its own signal"), "FAILURE", "active"),
    ],
)
def test_ends_that_have_no_signal(retval: Exception, state: str, walk: str) -> None:
    """A job that ignores or rejects its message would run for ever; one that is replaced would end too early."""
    observed = Observed()
    with executing():
        observed.task_process.prerun(task=task)
        observed.task_process.postrun(task=task, state=state, retval=retval)
    assert observed.walk == walk


def test_a_job_that_is_put_back_has_not_failed() -> None:
    """It runs again: the main process reports it as queued."""
    observed = Observed()
    with executing(late):
        observed.task_process.prerun(task=late)
        observed.task_process.postrun(task=late, state="REJECTED", retval=Reject("again", requeue=True))
    assert observed.walk == "active"


def test_a_failure_that_can_not_be_stored_has_the_tasks_own_error() -> None:
    """Celery fires no signal if the result backend is away: the job would run for ever, or fail by another error."""
    observed, away = Observed(), ConnectionError("away")
    with executing(), pytest.raises(ConnectionError):  # noqa: PT012 - one frame sees both, as Celery's does
        observed.task_process.prerun(task=task)
        try:
            try:
                raise ValueError("boom")  # noqa: TRY301 - as a task does
            except ValueError:
                raise away  # noqa: B904 - as Python links them
        finally:
            observed.task_process.postrun(task=task, state=None)
    assert observed.walk == "active failed"
    assert observed.last["error"] == "ValueError: boom"
    assert observed.recorder.is_recorded(away), "the main process would report it as well"


def test_a_retry_that_can_not_be_stored_is_a_retry() -> None:
    """The next attempt is published: a failure in between would be a false alarm."""
    observed = Observed()
    with executing(), pytest.raises(ConnectionError):  # noqa: PT012 - one frame sees both, as Celery's does
        observed.task_process.prerun(task=task)
        try:
            try:
                raise Retry(exc=ValueError("boom"))  # noqa: TRY301 - as a task does
            except Retry:
                raise ConnectionError("away")  # noqa: B904 - as Python links them
        finally:
            observed.task_process.postrun(task=task, state=None)
    assert observed.walk == "active retrying"


def test_a_task_that_exits_when_its_caller_runs_it_has_failed() -> None:
    """No worker would ever announce its end."""
    observed = Observed()
    with executing(is_eager=True), pytest.raises(SystemExit):  # noqa: PT012 - it ends while the exception passes
        observed.task_process.prerun(task=task)
        try:
            raise SystemExit(3)
        finally:
            observed.task_process.postrun(task=task, state=None)
    assert observed.walk == "active failed"
    assert (observed.last["error"], observed.last["reason"]) == ("SystemExit: 3", "Celery announced no end")


def test_a_task_that_a_pool_process_ends_gets_its_end_from_the_main_process() -> None:
    """It would be reported twice: as exited here, and as lost there."""
    observed = Observed()
    with executing(), pytest.raises(SystemExit):  # noqa: PT012 - it ends while the exception passes
        begin_execution("job", {RUN: "w@h/1/main.0"})
        observed.task_process.prerun(task=task)
        try:
            raise SystemExit(3)
        finally:
            observed.task_process.postrun(task=task, state=None)
            end_execution()
    assert observed.walk == "active"
    assert observed.missing_ends.take_all() == []


def test_an_ignored_task_has_no_run() -> None:
    """A user who ignores a task would still see it."""
    observed = Observed(ignored=task.name)
    with executing():
        observed.task_process.prerun(task=task)
        observed.task_process.postrun(task=task, state="SUCCESS")
    assert observed.jobs == []
