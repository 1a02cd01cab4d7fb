"""The guard that keeps our exceptions from the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from sluice_agent.signals.guard import Interruption, guarded, guarded_receiver, plain_receiver
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


class BothWays:
    """A receiver with a handler of plain jobs, and the calls of its ordinary one."""

    def __init__(self, handle_plain: Any) -> None:
        self.observed = Observed()
        self.ordinary: list[Any] = []
        self.receiver = plain_receiver(
            self.observed.sink, guarded_receiver(self.observed.sink, self._handle), handle_plain
        )

    def _handle(self, *, sender: Any, **_: Any) -> None:
        self.ordinary.append(sender)


def test_a_plain_job_is_handled_once_whatever_else_is_connected() -> None:
    """Beside another library's receiver, as Django's, each job would cost twice as much, or have its events twice."""
    named: list[Mapping[str, Any]] = []
    plain = BothWays(lambda arguments: not named.append(arguments))
    assert plain.receiver(sender="task", task_id="job") is None
    assert (named, plain.ordinary) == ([{"sender": "task", "task_id": "job"}], [])
    other = BothWays(lambda _: False)
    other.receiver(sender="task", task_id="job")
    assert other.ordinary == ["task"], "what is not plain takes the ordinary way"


def test_a_fault_in_the_way_of_plain_jobs_is_counted_and_does_not_reach_the_host() -> None:
    """A bug of the agent would fail the user's tasks."""
    faulty = BothWays(lambda arguments: arguments["missing"])
    assert faulty.receiver(sender="task") is None
    assert (faulty.observed.dropped, faulty.ordinary) == (["internal_error"], [])


def test_a_limit_that_strikes_in_the_way_of_plain_jobs_loses_no_event() -> None:
    """A task would run on past its limit, or look as if it never began."""
    in_package: dict[str, Any] = {"__name__": "sluice_agent.any", "Limit": SoftTimeLimitExceeded}
    exec("def handle_plain(_): raise Limit()", in_package)
    struck = BothWays(in_package["handle_plain"])
    interruption = struck.receiver(sender="task")
    assert isinstance(interruption, Interruption)
    assert (struck.ordinary, struck.observed.dropped) == (["task"], [])
