"""A run in the process that executes it."""

from __future__ import annotations

import pytest

from sluice_agent.lifecycle.encoding import JobExtensions
from sluice_agent.model import JobState
from tests.unit.signals.observed import STARTED, run


@pytest.mark.parametrize("state", [None, *JobState])
def test_a_run_has_ended_in_every_state_but_active(state: JobState | None) -> None:
    """Progress would be reported after a retry, or no end of a job at all."""
    executed = run()
    executed.state = state
    assert executed.has_ended is (state not in (None, JobState.ACTIVE))


def test_the_times_of_a_run_follow_its_start() -> None:
    """If the wall clock is set back while a job runs, its end would come before its start."""
    executed = run()
    assert executed.after(0) == STARTED
    assert executed.after(61.5) == "2026-02-27T10:01:01.500000Z"
    assert executed.now() > STARTED


def test_a_run_is_eager_if_its_caller_runs_it() -> None:
    """No main process receives the end of such a job: it would run for ever if it was stopped."""
    assert run(extensions=JobExtensions(eager=True)).is_eager
    assert not run().is_eager
