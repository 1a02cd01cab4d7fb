"""Runs that end without a state, and of which Celery announces no end."""

from __future__ import annotations

import os
import threading

import pytest

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobExtensions
from sluice_agent.lifecycle.identity import agent_run_name
from sluice_agent.signals.missing_ends import MissingEnds
from sluice_agent.signals.outcome import Outcome
from sluice_agent.signals.run import Run
from tests.support.waiting import wait_until
from tests.unit.signals.observed import WORKER, Observed, run


def named_here(external_id: str = "job") -> Run:
    """Return a run that this process has received, and so named."""
    return run(external_id, run_name=agent_run_name(WORKER, os.getpid(), "token", 0))


def _timers(interval: float) -> list[threading.Timer]:
    return [
        thread
        for thread in threading.enumerate()
        if isinstance(thread, threading.Timer) and thread.interval == interval
    ]


def test_a_run_without_an_end_has_failed_when_its_time_is_over() -> None:
    """A thread whose task calls `sys.exit()` ends its job without a signal: it would run for ever."""
    observed = Observed()
    missing_ends = MissingEnds(observed.sink, observed.recorder, timeout=0.01)
    for external_id in ("a", "b"):
        missing_ends.add(named_here(external_id), SystemExit(3))
    wait_until(lambda: len(observed.jobs) == 2)
    assert observed.walk == "failed failed"
    assert (observed.last["error"], observed.last["reason"]) == ("SystemExit: 3", "Celery announced no end")
    missing_ends.add(named_here("c"), SystemExit(3))
    wait_until(lambda: len(observed.jobs) == 3)
    wait_until(lambda: not _timers(0.01), message="a worker would start a thread every few seconds, for ever")


class GreenletExit(BaseException):
    """As gevent kills a greenlet."""


def test_a_killed_greenlet_was_cut_off_even_if_the_worker_takes_long_to_end() -> None:
    """A worker whose broker is slow would report the jobs that its shutdown has cut off as failed."""
    observed = Observed()
    missing_ends = MissingEnds(observed.sink, observed.recorder, timeout=0.01)
    missing_ends.add(named_here(), GreenletExit())
    wait_until(lambda: observed.jobs)
    assert (observed.walk, observed.last["reason"]) == ("cancelled", transitions.CUT_OFF_REASON)
    assert "error" not in observed.last


def test_an_announced_end_that_comes_in_time_counts() -> None:
    """A run that is terminated ends by `SystemExit` too: it would be shown as failed, and not as cancelled."""
    observed, executed = Observed(), named_here()
    observed.missing_ends.add(executed, SystemExit(15))
    observed.recorder.record_end(executed, Outcome(transitions.REVOKED))
    for stopped in observed.missing_ends.take_all():
        observed.missing_ends.report(stopped)
    assert observed.walk == "cancelled"


def test_a_run_that_has_ended_waits_for_no_end() -> None:
    """A hook that calls `sys.exit()` after each end would start threads and keep runs in memory, for nothing."""
    observed, executed = Observed(), named_here()
    observed.recorder.record_end(executed, Outcome(transitions.FAILED))
    observed.missing_ends.add(executed, SystemExit(3))
    assert observed.missing_ends.take_all() == []


def test_the_end_has_the_time_at_which_the_run_stopped() -> None:
    """It would seem to have run for as long as the agent waited for its end."""
    observed, executed = Observed(), named_here()
    observed.missing_ends.add(executed, SystemExit(3))
    (stopped,) = observed.missing_ends.take_all()
    observed.missing_ends.report(stopped)
    assert observed.last["completedAt"] == stopped.when
    assert observed.last["runtime"] == pytest.approx(stopped.stopped_monotonic - executed.started_monotonic, abs=1e-6)


def test_a_run_that_its_caller_executes_is_not_missing_its_end() -> None:
    """Its process exits next: the end must be reported before that."""
    observed = Observed()
    observed.missing_ends.add(run(extensions=JobExtensions(eager=True)), KeyboardInterrupt())
    assert observed.walk == "failed"


@pytest.mark.parametrize("run_name", ["w@h/1/token.0", ""])
def test_a_run_that_another_process_has_named_ends_there(run_name: str) -> None:
    """It would be reported twice: by the pool process, and by the main process."""
    observed = Observed()
    observed.missing_ends.add(run(run_name=run_name), SystemExit(3))
    assert (observed.jobs, observed.missing_ends.take_all()) == ([], [])


def test_a_run_that_was_not_stopped_by_an_exception_is_not_missing_an_end() -> None:
    """Celery ends a run without a state where it handles what follows itself."""
    observed = Observed()
    observed.missing_ends.add(named_here(), None)
    assert observed.missing_ends.take_all() == []
