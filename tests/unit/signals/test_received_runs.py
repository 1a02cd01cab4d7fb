"""The run that a worker's main process announces an end of."""

from __future__ import annotations

import json
import time

from sluice_agent.lifecycle import transitions
from sluice_agent.signals.agent_header import CREATED_AT, HEADER, RUN
from tests.unit.signals.observed import STARTED, WORKER, Observed, executing, message, task

ENDED = "2026-02-27T10:00:05.000000Z"


def test_a_run_has_the_facts_of_its_request_and_message() -> None:
    """The end of a lost job would not show which queue and worker it was in, or not belong to its start."""
    observed = Observed()
    header = {HEADER: {CREATED_AT: STARTED}}
    request = observed.handle(
        message(retries=2, **header), lambda made: observed.requests.keep(made).update({RUN: "r"})
    )
    of_request = observed.runs.of_request(request)
    of_context = observed.runs.of_context(task, request._context)
    assert of_request is not None
    assert of_context is not None
    event = of_request.events.event(transitions.FAILED, ENDED)
    job = json.loads(event)["job"]
    assert (job["externalId"], job["name"], job["queue"], job["workerId"]) == ("job", task.name, "celery", WORKER)
    assert (job["attempt"], job["createdAt"], of_request.events.run_name) == (3, STARTED, "r")
    assert event == of_context.events.event(transitions.FAILED, ENDED)


def test_a_run_that_has_begun_has_its_start() -> None:
    """A job that was killed would have no start, and no runtime."""
    observed = Observed()
    request = observed.receive()
    waiting = observed.runs.of_request(request)
    request.on_accepted(1, time.monotonic())
    begun = observed.runs.of_request(request)
    assert waiting is not None
    assert begun is not None
    assert (waiting.started is None, begun.started is None) == (True, False)
    assert str(begun.started) <= begun.ended


def test_a_run_has_the_start_of_its_own_request() -> None:
    """A killed job would have no start, if its next attempt is received before its retry is announced."""
    observed = Observed()
    first = observed.receive()
    first.on_accepted(1, time.monotonic())
    second = observed.receive()
    starts = [
        run is not None and run.started
        for request in (first, second)
        for run in (observed.runs.of_request(request), observed.runs.of_context(task, request._context))
    ]
    assert starts[0] == starts[1] is not None
    assert starts[2:] == [None, None]


def test_a_job_is_found_by_its_current_request_and_then_by_the_one_that_is_held() -> None:
    """A failure that names only the job's id would be reported for no job."""
    observed = Observed()
    request = observed.receive("held")
    held = observed.runs.of_job(task, "held")
    with executing(external_id="current"):
        current = observed.runs.of_job(task, "current")
    assert held is not None
    assert current is not None
    assert [run.events.external_id for run in (held, current)] == [request.id, "current"]
    assert observed.runs.of_job(task, "unknown") is None


def test_an_ignored_task_has_no_run() -> None:
    """A user who ignores a task would see the ends of its jobs."""
    observed = Observed(ignored=task.name)
    request = observed.receive()
    assert observed.runs.of_request(request) is None
    assert observed.runs.of_context(task, request._context) is None
    assert observed.runs.of_job(task, "job") is None
