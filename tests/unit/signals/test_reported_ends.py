"""The memory of what is reported: of ends, and on exceptions."""

from __future__ import annotations

import pickle
from typing import Any

from sluice_agent.lifecycle.encoding import JobEvents, JobFacts
from sluice_agent.model import JobState
from sluice_agent.signals.reported_ends import ReportedEnds, is_marked, mark_exception
from tests.unit.signals.observed import CONNECTION


class EveryAttributeError(Exception):
    """An error as some API clients have it: every attribute exists."""

    def __getattr__(self, name: str) -> Any:
        return name


def test_only_a_marked_exception_counts_as_reported() -> None:
    """Without it no process reports the failures of a client whose errors have every attribute."""
    error = EveryAttributeError()
    assert not is_marked(error)
    mark_exception(error)
    assert is_marked(error)


def test_the_mark_reaches_the_main_process() -> None:
    """A pool process sends it the exception by pickle: without the mark its failure is reported twice."""
    error = ConnectionError("the result backend is away")
    mark_exception(error)
    assert is_marked(pickle.loads(pickle.dumps(error)))


def test_the_memory_of_ends_is_bounded() -> None:
    """A worker that runs for a year would grow with every failed job."""
    ends = ReportedEnds(capacity=2)
    jobs = [JobEvents(CONNECTION, JobFacts(str(number), "observed.task")) for number in range(3)]
    for events in (jobs[0], jobs[1], jobs[0], jobs[2]):
        ends.add(events, JobState.FAILED)
    assert [ends.is_reported(events, JobState.FAILED) for events in jobs] == [True, False, True]


def test_an_end_that_every_job_has_counts_for_nothing() -> None:
    """What Celery announces of a job that has completed, such as its revocation, would never be reported."""
    ends, events = ReportedEnds(), JobEvents(CONNECTION, JobFacts("job", "observed.task"))
    ends.add(events, JobState.COMPLETED)
    assert not ends.has_end(events)
    ends.add(events, JobState.QUEUED)
    assert ends.has_end(events)
