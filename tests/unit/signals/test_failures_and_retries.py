"""Failures and retries of jobs that this process executes, and of those that it has only received."""

from __future__ import annotations

import pytest
from billiard.exceptions import WorkerLostError
from celery.exceptions import Reject, Retry

from sluice_agent.signals.failures_and_retries import FailuresAndRetries
from tests.unit.signals.observed import Observed, executing, task


@pytest.fixture
def observed() -> Observed:
    return Observed()


@pytest.fixture
def handlers(observed: Observed) -> FailuresAndRetries:
    return FailuresAndRetries(observed.recorder, observed.runs)


def test_a_failure_ends_the_run_that_is_executed_here(observed: Observed, handlers: FailuresAndRetries) -> None:
    """Without its run a failure has no start and no runtime."""
    with executing():
        observed.task_process.prerun(task=task)
        handlers.failure(sender=task, task_id="job", exception=ValueError("boom"))
        observed.task_process.postrun(task=task, state="FAILURE")
    assert observed.walk == "active failed"
    assert observed.last["error"] == "ValueError: boom"
    assert observed.last["runtime"] >= 0


def test_the_error_is_the_original_and_not_its_picklable_copy(observed: Observed, handlers: FailuresAndRetries) -> None:
    """Celery passes on a wrapper of an exception that can't be pickled: users would read of a class they don't know."""
    with executing():
        observed.task_process.prerun(task=task)
        try:
            raise ValueError("boom")  # noqa: TRY301 - as a task does
        except ValueError:
            handlers.failure(sender=task, task_id="job", exception=RuntimeError("UnpickleableExceptionWrapper"))
    assert observed.last["error"] == "ValueError: boom"


def test_a_success_that_can_not_be_stored_is_corrected(observed: Observed, handlers: FailuresAndRetries) -> None:
    """The job's caller gets a failure, and the job would be shown as completed."""
    try:
        with executing() as context:
            observed.task_process.prerun(task=task)
            try:
                raise ConnectionError("away")
            finally:
                observed.task_process.postrun(task=task, state="SUCCESS")
    except ConnectionError as error:
        handlers.failure(sender=task, task_id=context.id, exception=error)
        handlers.failure(sender=task, task_id=context.id, exception=error)
    assert observed.walk == "active completed failed", "an end that is announced twice is reported once"


def test_the_main_process_reports_the_job_of_a_lost_process(observed: Observed, handlers: FailuresAndRetries) -> None:
    """A job whose process was killed would run for ever."""
    request = observed.receive()
    handlers.failure(sender=task, task_id="job", exception=WorkerLostError("signal 9"))
    handlers.failure(sender=task, task_id="job", exception=WorkerLostError("signal 9"))
    assert observed.walk == "failed"
    assert observed.last["error"] == "WorkerLostError: signal 9"
    assert observed.last["workerId"] == request.hostname


def test_the_main_process_knows_the_job_by_the_request_that_celery_pushes(
    observed: Observed, handlers: FailuresAndRetries
) -> None:
    """The worker may have freed its own request by then, and the failure would be reported by no process."""
    with executing(external_id="freed"):
        handlers.failure(sender=task, task_id="freed", exception=WorkerLostError("signal 9"))
    assert observed.walk == "failed"


@pytest.mark.parametrize("exception", [Reject("no", requeue=False), ValueError("marked")])
def test_an_end_that_another_process_has_reported_is_not_reported_again(
    observed: Observed, handlers: FailuresAndRetries, exception: Exception
) -> None:
    """A rejected job would be shown as failed by an error named `Reject`."""
    observed.receive()
    if not isinstance(exception, Reject):
        observed.recorder.mark(exception)
    handlers.failure(sender=task, task_id="job", exception=exception)
    assert observed.jobs == []


def test_a_failure_of_an_unknown_job_is_not_reported(observed: Observed, handlers: FailuresAndRetries) -> None:
    """A task that calls another library's signal would produce jobs that never existed."""
    handlers.failure(sender=task, task_id="unknown", exception=ValueError())
    assert (observed.jobs, observed.dropped) == ([], [])


def test_a_retry_ends_the_run_that_is_executed_here(observed: Observed, handlers: FailuresAndRetries) -> None:
    """An attempt would have no end, or the job would be shown as failed."""
    with executing() as context:
        observed.task_process.prerun(task=task)
        reason = Retry(exc=ValueError("boom"), when=60)
        handlers.retry(sender=task, request=context, reason=reason)
        observed.task_process.postrun(task=task, state="RETRY")
    assert observed.walk == "active retrying"
    assert observed.last["error"] == "ValueError: boom"
    assert observed.last["eta"] > observed.last["startedAt"]


def test_a_retry_that_the_main_process_announces(observed: Observed, handlers: FailuresAndRetries) -> None:
    """Celery 5.7 retries a job whose process was lost: the attempt would run for ever."""
    request = observed.receive()
    handlers.retry(sender=task, request=request._context, reason=Retry(exc=WorkerLostError("lost")))
    assert observed.walk == "retrying"


def test_a_cancellation_is_no_retry(observed: Observed, handlers: FailuresAndRetries) -> None:
    """Celery calls it one, without a reason; a job that is cut off would be waiting for an attempt that never comes."""
    with executing() as context:
        observed.task_process.prerun(task=task)
        handlers.retry(sender=task, request=context)
    assert observed.walk == "active"


def test_an_ignored_task_has_no_reported_end() -> None:
    """A user who ignores a task, as it is private or too frequent, would still see its failures."""
    observed = Observed(ignored=task.name)
    observed.receive()
    FailuresAndRetries(observed.recorder, observed.runs).failure(sender=task, task_id="job", exception=ValueError())
    assert observed.jobs == []
