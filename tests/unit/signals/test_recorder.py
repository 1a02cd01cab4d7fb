"""The state machine of a run: what may follow what, and what is reported once."""

from __future__ import annotations

import ast
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Reject

from sluice_agent import signals
from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents, JobFacts
from sluice_agent.signals.outcome import SUCCEEDED, Outcome
from sluice_agent.signals.run import ReceivedRun, Run
from tests.unit.signals.observed import CONNECTION, STARTED, Observed, run

FAILED = Outcome(transitions.FAILED, "ValueError: boom", "Traceback")
RETRIED = Outcome(transitions.RETRIED, "ValueError: boom", eta="2026-02-27T11:00:00.000000Z")
REVOKED = Outcome(transitions.REVOKED)
REQUEUED = Outcome(transitions.REQUEUED)


def received(external_id: str = "job", **facts: Any) -> ReceivedRun:
    """Return a run that another process executes."""
    events = JobEvents(CONNECTION, JobFacts(external_id, "observed.task", **facts))
    return ReceivedRun(events, STARTED, "2026-02-27T10:00:05.000000Z")


@pytest.mark.parametrize(
    ("ends", "walk"),
    [
        ((SUCCEEDED,), "active completed"),
        ((SUCCEEDED, SUCCEEDED), "active completed"),
        ((SUCCEEDED, RETRIED), "active completed"),
        ((SUCCEEDED, FAILED), "active completed failed"),
        ((RETRIED, SUCCEEDED), "active retrying"),
        ((RETRIED, FAILED), "active retrying failed"),
        ((FAILED, SUCCEEDED), "active failed"),
        ((REVOKED, SUCCEEDED), "active cancelled"),
    ],
)
def test_a_run_ends_once_and_only_a_failure_corrects_that(ends: tuple[Outcome, ...], walk: str) -> None:
    """A job that failed after it seemed to succeed would be shown as done, or one that succeeded as failed."""
    observed, executed = Observed(), run()
    observed.recorder.record_start(executed)
    observed.recorder.record_start(executed)  # an interrupted handler runs again
    for outcome in ends:
        observed.recorder.record_end(executed, outcome)
    assert observed.walk == walk


def test_the_last_progress_is_reported_before_the_end() -> None:
    """The bar of a task that reports quickly would stop short of its end; each report would cost an event."""
    observed, executed = Observed(), run()
    observed.recorder.record_start(executed)
    for percent in range(1, 100):
        observed.recorder.record_progress(executed, percent / 100)
    observed.recorder.record_end(executed, SUCCEEDED)
    assert [job.get("progress") for job in observed.jobs] == [None, 0.01, 0.99, None]


def test_a_run_that_has_ended_makes_no_progress() -> None:
    """A hook that reports it after the end of its task would make the job active again."""
    observed, executed = Observed(), run()
    observed.recorder.record_end(executed, SUCCEEDED)
    observed.recorder.record_progress(executed, 1.0)
    assert observed.walk == "completed"


def test_a_run_that_stops_reports_its_progress_before_the_main_process_reports_its_end() -> None:
    """The progress would come after the end, and the job would seem to run for ever."""
    observed, executed = Observed(), run()
    observed.recorder.record_progress(executed, 0.1)
    observed.recorder.record_progress(executed, 0.2)
    observed.recorder.record_stored_state(executed, "FAILURE", ValueError())
    observed.recorder.record_stop(executed)
    assert [job["progress"] for job in observed.jobs] == [0.1, 0.2]
    assert executed.stored is None, "it would keep the task's exception in memory"


def test_a_run_that_has_published_its_retry_ends_in_that() -> None:
    """Its next attempt may have begun: an end as completed would replace the state of that."""
    observed, executed = Observed(), run()
    observed.recorder.record_published_retry(executed, None)
    observed.recorder.record_end(executed, SUCCEEDED)
    assert (observed.last["state"], observed.last["celeryState"]) == ("retrying", "SUCCESS")
    assert observed.last["eta"] == executed.published_at


def test_a_retry_has_the_time_at_which_it_was_published() -> None:
    """With a later one it would sort after the start of the attempt that it announces."""
    observed, executed = Observed(), run()
    observed.recorder.record_published_retry(executed, RETRIED.eta)
    observed.recorder.record_retry(executed, RETRIED)
    observed.recorder.record_end(executed, SUCCEEDED)
    assert observed.walk == "retrying"
    assert observed.last["eta"] == RETRIED.eta


def test_a_run_whose_retry_is_not_published_ends_by_the_error() -> None:
    """A job that the broker refused would wait for ever for an attempt that never comes."""
    observed, executed = Observed(), run()
    observed.recorder.record_published_retry(executed, None)
    observed.recorder.record_unpublished_retry(executed)
    observed.recorder.record_end(executed, FAILED)
    assert observed.walk == "failed"


@pytest.mark.parametrize(
    ("announced", "walk"),
    [
        ((FAILED, FAILED), "failed"),
        ((REQUEUED, FAILED), "queued"),
        ((FAILED, REQUEUED), "failed queued"),
        ((REVOKED, FAILED), "cancelled failed"),
    ],
)
def test_an_announced_end_is_reported_once(announced: tuple[Outcome, ...], walk: str) -> None:
    """Celery 5.7 announces some of them twice, and a failure of a job that it has put back at its time limit."""
    observed = Observed()
    for outcome in announced:
        observed.recorder.record_announced_end(received(), outcome)
    assert observed.walk == walk


@pytest.mark.parametrize("before", [FAILED, REVOKED, RETRIED, REQUEUED])
def test_an_unannounced_end_is_reported_if_there_is_no_other(before: Outcome) -> None:
    """A job would be shown as cut off although its failure was reported, or as running although it was cut off."""
    observed = Observed()
    observed.recorder.record_unannounced_end(received(), REVOKED)
    assert observed.walk == "cancelled"
    observed.recorder.record_announced_end(received("other"), before)
    observed.recorder.record_unannounced_end(received("other"), REVOKED)
    assert len(observed.jobs) == 2


@pytest.mark.parametrize("other", [{"attempt": 2}, {"run_name": "w@h/7/a.2"}, {"external_id": "other"}])
def test_an_end_counts_for_its_own_run(other: dict[str, Any]) -> None:
    """The failure of a job's second delivery, or of its retry, would be taken for that of the first, and be lost."""
    observed = Observed()
    observed.recorder.record_announced_end(received(run_name="w@h/7/a.1"), FAILED)
    observed.recorder.record_announced_end(received(**{"run_name": "w@h/7/a.1", **other}), FAILED)
    assert observed.walk == "failed failed"


def test_a_run_that_ended_here_is_not_announced_again() -> None:
    """In the pools of one process Celery may announce an end that the task's own signal has reported."""
    observed, executed = Observed(), run()
    observed.recorder.record_end(executed, FAILED)
    observed.recorder.record_announced_end(received(), FAILED)
    observed.recorder.record_unannounced_end(received(), REVOKED)
    assert observed.walk == "failed"


@pytest.mark.parametrize("is_announced", [False, True])
def test_a_missing_end_is_replaced_only_if_none_has_come(is_announced: bool) -> None:
    """A task that calls `sys.exit()` would run for ever, or a revoked one would be shown as failed."""
    observed, executed = Observed(), run()
    if is_announced:
        observed.recorder.record_announced_end(received(), REVOKED)
    for _ in range(2):
        observed.recorder.record_missing_end(executed, FAILED, when=STARTED, runtime=1.0, reason="none came")
    assert observed.walk == ("cancelled" if is_announced else "failed")
    if not is_announced:
        assert (observed.last["reason"], observed.last["runtime"]) == ("none came", 1.0)


def test_what_the_process_of_the_run_has_reported_is_marked() -> None:
    """The main process, which gets the exception, would report it as a second failure, with another text."""
    recorder, reported, successor = Observed().recorder, ValueError(), ConnectionError()
    assert not recorder.is_recorded(reported)
    recorder.mark_successor(successor, reported)
    assert not recorder.is_recorded(successor)
    recorder.mark(reported)
    recorder.mark_successor(successor, reported)
    recorder.mark_successor(successor, None)
    assert recorder.is_recorded(reported)
    assert recorder.is_recorded(successor)
    assert recorder.is_recorded(Reject("no")), "it is reported as rejected, and Celery 5.7 then announces a failure"


def test_nothing_else_changes_a_run() -> None:
    """If several files write its state, a change to one reports an end twice, or never."""
    names = {field.name for field in fields(Run) if field.default is not MISSING}
    writers = {
        path.name
        for path in Path(signals.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in names
    }
    makers = {"run.py", "current_runs.py"}
    assert writers - makers == {"recorder.py"}


def test_nothing_else_emits_the_event_of_a_job() -> None:
    """An event that the recorder does not know of is reported once more, or contradicts what it reports."""
    emitters = {
        path.name
        for path in Path(signals.__file__).parent.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "emit"
    }
    plain = {"plain_jobs.py", "plain_publications.py"}  # of which it has nothing to decide
    assert emitters - plain == {"recorder.py", "worker.py"}, "a worker's own events are no job's"
