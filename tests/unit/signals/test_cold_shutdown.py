"""Jobs that Celery cancels as its worker shuts down or loses its broker, and those that it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import celery
import pytest
from celery.worker import state as worker_state
from celery.worker.request import Request

from sluice_agent.lifecycle.identity import agent_run_name
from sluice_agent.signals.cold_shutdown import ColdShutdown
from sluice_agent.signals.main_process import MainProcess
from tests.support.waiting import wait_until
from tests.unit.signals.observed import WORKER, Observed, ProcessPool, app, run

CUT_OFF = "cut off by a cold shutdown"


@pytest.fixture
def observed() -> Iterator[Observed]:
    yield Observed()
    worker_state.active_requests.clear()


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def cold_shutdown(observed: Observed, **options: Any) -> ColdShutdown:
    main_process = MainProcess(observed.sink, observed.recorder, observed.names, observed.requests, observed.runs)
    made = ColdShutdown(observed.sink, main_process.report_unannounced, observed.missing_ends, observed.pool, **options)
    made.patch_cancellations()
    return made


def accepted(observed: Observed, pid: int, pool: ProcessPool | None = None) -> Request:
    """Return the request of a job that a process of the pool executes."""
    request = observed.receive()
    if pool is not None:
        request.execute_using_pool(pool)
    request.on_accepted(pid, time.monotonic())
    return request


@pytest.mark.skipif(celery.VERSION[:2] < (5, 7), reason="older Celery announces a retry of each job that it cancels")
def test_a_job_that_a_cold_shutdown_stops_is_cut_off_when_the_pool_is_gone(observed: Observed) -> None:
    """It would run for ever; reported at once, it would be cancelled although it may have ended."""
    shutdown, pool = cold_shutdown(observed), ProcessPool()
    accepted(observed, 1, pool).cancel(pool, emit_retry=False)
    assert observed.jobs == []
    shutdown.shutting_down()
    shutdown.worker_ended()
    assert (observed.walk, observed.last["celeryState"]) == ("cancelled", "STARTED")
    assert observed.last["reason"] == CUT_OFF


def test_a_job_that_has_ended_in_the_stopped_pool_is_not_cut_off(observed: Observed) -> None:
    """The pool process reports its end; a job that succeeded would be shown as cancelled."""
    shutdown, pool = cold_shutdown(observed), ProcessPool()
    accepted(observed, 1, pool).cancel(pool)
    pool.results[0]._set(None, (True, None))
    shutdown.shutting_down()
    assert observed.jobs == []


def test_a_job_whose_process_is_dead_is_cut_off_though_its_pool_never_stops(observed: Observed, dead_pid: int) -> None:
    """A child that dies with a lock leaves billiard's pool waiting: its jobs would run for ever."""
    cold_shutdown(observed, pool_stop_timeout=0.01)
    pool = ProcessPool()
    accepted(observed, dead_pid, pool).cancel(pool)
    wait_until(lambda: observed.walk == "cancelled")
    assert observed.last["celeryState"] == "RETRY"


@pytest.mark.parametrize("in_pool", [True, False])
def test_a_job_that_is_not_acknowledged_goes_back_to_its_queue(observed: Observed, in_pool: bool) -> None:
    """It runs again: shown as cancelled, it would be started by hand a second time."""
    cold_shutdown(observed)
    pool = ProcessPool()
    request = accepted(observed, 1, pool if in_pool else None)
    request.acknowledged = False
    before, app.conf.worker_cancel_long_running_tasks_on_connection_loss = (
        app.conf.worker_cancel_long_running_tasks_on_connection_loss,
        not in_pool,
    )
    try:
        request.cancel(pool)
    finally:
        app.conf.worker_cancel_long_running_tasks_on_connection_loss = before
    assert (observed.walk, observed.last["requeued"]) == ("queued", True)


def test_a_greenlet_that_is_cancelled_is_not_reported_yet(observed: Observed) -> None:
    """Celery kills it, and acknowledges its job after that: shown as queued, it would never run."""
    cold_shutdown(observed)
    request = accepted(observed, 7)
    request.acknowledged = False
    request.cancel(ProcessPool())
    assert observed.jobs == []


def test_a_job_that_the_worker_leaves_behind_is_cut_off(observed: Observed, dead_pid: int) -> None:
    """Before Celery 5.5 a cold shutdown announces nothing: each of its jobs would run for ever."""
    shutdown = cold_shutdown(observed)
    request = accepted(observed, dead_pid)
    shutdown.worker_ended()
    shutdown.worker_ended()
    assert (observed.walk, request in worker_state.active_requests) == ("cancelled", True)


@pytest.mark.parametrize(("in_greenlets", "walk"), [(False, ""), (True, "cancelled")])
def test_a_job_of_a_living_process_is_cut_off_only_in_greenlets(
    observed: Observed, in_greenlets: bool, walk: str
) -> None:
    """A worker waits for its threads, which report their ends; its greenlets end with it."""
    shutdown = cold_shutdown(observed)
    observed.pool.in_greenlets = in_greenlets
    accepted(observed, 0)
    shutdown.worker_ended()
    assert observed.walk == walk


def test_a_run_that_waits_for_its_end_when_the_worker_ends(observed: Observed) -> None:
    """No end follows: it would stay active for ever."""
    shutdown = cold_shutdown(observed)
    name = agent_run_name(WORKER, os.getpid(), "token", 0)
    observed.missing_ends.add(run(run_name=name), SystemExit(3))
    shutdown.worker_ended()
    assert (observed.walk, observed.last["error"]) == ("failed", "SystemExit: 3")
