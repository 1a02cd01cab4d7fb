"""The guard that keeps our exceptions from the host."""

from __future__ import annotations

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from sluice_agent.signals.guard import Interruption, guarded, guarded_receiver
from tests.unit.signals.observed import Observed


def fault() -> None:
    {}["missing"]


def test_a_fault_of_ours_is_counted_and_does_not_reach_the_host() -> None:
    """A bug of the agent would fail the user's tasks; uncounted, nobody would know that an event is missing."""
    observed = Observed()
    assert guarded_receiver(observed.sink, fault)() is None
    guarded(observed.sink, fault)()
    assert observed.dropped == ["internal_error"] * 2


def test_a_limit_that_strikes_in_a_hook_is_the_hosts() -> None:
    """It would be lost, and the task run on; the hook, which may be what takes too long, is not called again."""
    observed = Observed()
    calls: list[int] = []

    def hook() -> None:
        calls.append(1)
        raise SoftTimeLimitExceeded

    interruption = guarded_receiver(observed.sink, hook)()
    assert isinstance(interruption, Interruption)
    assert isinstance(interruption.error, SoftTimeLimitExceeded)
    with pytest.raises(SoftTimeLimitExceeded):
        guarded(observed.sink, hook)()
    assert (len(calls), observed.dropped) == (2, ["interrupted"] * 2)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_process_is_not_swallowed(error: type[BaseException]) -> None:
    """A worker could not be stopped while it reports a job."""

    def stopped() -> None:
        raise error

    with pytest.raises(error):
        guarded(Observed().sink, stopped)()
