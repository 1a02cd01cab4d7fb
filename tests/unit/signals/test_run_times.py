"""The start and end of a run, in the process that did not execute it."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from sluice_agent.lifecycle.timestamps import seconds_from_iso
from sluice_agent.signals.run_times import times_of


def accepted(by: float, *, start: float | None = None) -> Any:
    """Return a worker's request that its pool has accepted at `by`, or that has a `start`."""
    result = SimpleNamespace(_time_accepted=by)
    wall_clock = time.time() - (time.monotonic() - by)  # in `Request.on_accepted`
    return SimpleNamespace(time_start=start or wall_clock, _apply_result=lambda: result)


def test_a_run_ends_when_it_has_taken_its_time() -> None:
    """A worker whose clock is set back while a job runs would otherwise report that it ended before it started."""
    started, ended = times_of(accepted(time.monotonic() - 5, start=time.time() + 3_600))
    began = seconds_from_iso(started)
    assert began is not None
    assert (seconds_from_iso(ended) or 0) - began == pytest.approx(5, abs=0.5)


def test_a_clock_that_is_not_set() -> None:
    """Correct times must not be changed."""
    started, ended = times_of(accepted(time.monotonic() - 5))
    assert seconds_from_iso(started) == pytest.approx(time.time() - 5, abs=0.5)
    assert seconds_from_iso(ended) == pytest.approx(time.time(), abs=0.5)


def test_a_job_that_was_given_to_a_process_that_had_gone() -> None:
    """Celery takes the wall clock for the monotonic one there, and the job seems to start in 2083."""
    started, ended = times_of(accepted(time.time()))
    assert started is None
    assert seconds_from_iso(ended) == pytest.approx(time.time(), abs=0.5)


def test_pools_without_processes() -> None:
    """They don't record when they accepted a job: it must not end before it has started."""
    request = SimpleNamespace(time_start=time.time() + 3_600, _apply_result=None)
    started, ended = times_of(request)
    assert started == ended
    assert times_of(SimpleNamespace(time_start=None, _apply_result=None))[0] is None
    assert times_of(None)[0] is None
