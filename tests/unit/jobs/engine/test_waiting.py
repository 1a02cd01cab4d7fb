"""Why a run is not started, in each case in which it stays queued."""

from __future__ import annotations

from typing import Any

import pytest

from sluice_agent.jobs.engine.claim import JobCache, claim_runs
from sluice_agent.jobs.engine.stale import release_lost, release_unpublished
from sluice_agent.jobs.runs.transitions import Held
from sluice_agent.jobs.store.takers import note_takers
from tests.support.job_attempts import SECOND, Attempts


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"max_concurrency": 1}, "max_concurrency allows, 1"),
        ({"max_concurrency_per_key": 1}, "max_concurrency_per_key allows, 1"),
        ({"rate_limit_keys": [{"name": "mail", "max": 1, "window_secs": 60}]}, "the limit mail"),
        ({}, ""),
    ],
)
def test_a_limit_that_is_used_up_is_named(attempts: Attempts, settings: dict[str, Any], reason: str) -> None:
    """A user would look for the fault in the workers, while it is a number that was set long ago."""
    job = attempts.job(**settings)
    first, second = (attempts.trigger(job, concurrency_key="k") for _ in range(2))
    assert attempts.why_it_waits(first) == attempts.why_it_waits(second) == ""
    with attempts.store.writing() as writer:
        claim_runs(writer, JobCache(), 1, attempts.store.moment, 300)
    (waiting,) = (run for run in (first, second) if attempts.row(run).status == "queued")
    assert reason in attempts.why_it_waits(waiting)
    assert bool(attempts.why_it_waits(waiting)) == bool(reason)


def test_a_job_that_is_off_and_an_endpoint_that_is_down_are_named(attempts: Attempts) -> None:
    """A run would wait for days, as somebody has disabled its job, and no page would say so."""
    job = attempts.job()
    run = attempts.trigger(job)
    attempts.switch(job, enabled=False)
    assert "disabled" in attempts.why_it_waits(run)
    attempts.switch(job, enabled=True)
    attempts.pause(job)
    assert "paused" in attempts.why_it_waits(run)
    attempts.resume(job)
    attempts.offer(run, Held(attempts.store.moment + 60 * SECOND))
    assert "not requested before 2026-02-27T12:01:00" in attempts.why_it_waits(run)


def test_a_run_whose_message_was_lost_has_the_reason(attempts: Attempts) -> None:
    """A run that is queued again, though it was on its way, would look like a fault of the server."""
    unpublished, lost = (attempts.trigger(attempts.job()) for _ in range(2))
    for run, release in ((unpublished, release_unpublished), (lost, release_lost)):
        attempts.claim(run)
        attempts.pass_(61)
        with attempts.store.writing() as writer:
            assert release(writer, attempts.store.moment) == 1
            note_takers(writer, None)
    assert "server ended" in attempts.row(unpublished).error
    assert "worker that had the message is gone" in attempts.row(lost).error
    execution = attempts.begin(lost)
    attempts.finish(lost, execution)
    assert attempts.row(lost).error is None
