"""The agent header of each request that a worker's main process holds, hidden from all others."""

from __future__ import annotations

import gc
import os

import pytest
from kombu import Connection
from kombu.transport.virtual import Message as VirtualMessage

from sluice_agent.signals.agent_header import CREATED_AT, HEAD, HEADER, MEMBERS, PROCESS, RUN
from tests.unit.signals.observed import STARTED, Observed, message, request_for

AGENT_HEADER = {CREATED_AT: STARTED}


@pytest.fixture
def observed() -> Observed:
    return Observed()


def test_no_receiver_sees_the_header(observed: Observed) -> None:
    """A user's code that copies a message's headers into another one would break the second job's record."""
    received = message(**{HEADER: AGENT_HEADER})
    sent = received.headers
    request = observed.handle(received, observed.requests.keep)
    assert HEADER not in request.request_dict
    assert HEADER not in received.headers
    assert HEADER in sent, "with the memory transport they are the producer's own"
    assert observed.requests.of_request(request) == AGENT_HEADER


def test_the_run_is_not_named_by_a_message(observed: Observed) -> None:
    """A message that another library copies would give two jobs one run, or one job the name of the other."""
    forged = {HEADER: {**AGENT_HEADER, RUN: "w@h/1/a.0", PROCESS: "5", HEAD: "another", MEMBERS: ""}}
    request = observed.handle(message(**forged), observed.requests.keep)
    assert observed.requests.of_request(request) == AGENT_HEADER


@pytest.mark.parametrize(
    ("pid", "in_greenlets", "process"),
    [(5, False, "5"), (os.getpid(), False, None), (None, False, None), (140_000, True, None)],
    ids=["pool process", "own process", "not begun", "greenlet"],
)
def test_a_run_in_a_pool_process_has_the_number_of_that(
    observed: Observed, pid: int | None, in_greenlets: bool, process: str | None
) -> None:
    """The pool may give a job to a second process: the two processes would report one run with two starts."""
    request = observed.handle(message(), lambda made: observed.requests.keep(made).update({RUN: "w@h/1/a.0"}))
    request.worker_pid = pid
    observed.pool.in_greenlets = in_greenlets
    assert observed.requests.of_request(request).get(PROCESS) == process


def test_the_header_of_a_message_is_known_while_it_is_handled(observed: Observed) -> None:
    """A job of an unknown task has no request: its failure would be that of another job."""
    handled = message(**{HEADER: AGENT_HEADER})
    seen = []
    observed.handle(handled, lambda request: seen.append(observed.requests.of_context(request._context)[1]))
    assert seen == [AGENT_HEADER], "as when the worker revokes it before it announces its receipt"
    assert observed.requests.of_message(handled) == {}


def test_a_request_is_found_by_the_context_that_celery_makes_of_it(observed: Observed) -> None:
    """If a job is delivered twice, the end of the first delivery would be that of the second."""
    first = observed.handle(message(), lambda made: observed.requests.keep(made).update({RUN: "first"}))
    second = observed.handle(message(), lambda made: observed.requests.keep(made).update({RUN: "second"}))
    assert observed.requests.of_context(first._context) == (first, {RUN: "first"})
    assert observed.requests.of_context(second._context) == (second, {RUN: "second"})
    assert observed.requests.request("job") is second


def test_a_header_is_freed_with_its_request(observed: Observed) -> None:
    """A worker would grow with every job."""
    observed.receive()
    gc.collect()
    assert observed.requests.request("job") is None


def test_a_request_that_is_kept_twice_is_freed_once() -> None:
    """An interrupted handler runs again: its worker would print an error, or the second run would have no header."""
    observed = Observed()
    request = request_for(message())
    observed.requests.keep(request)[RUN] = "first"
    assert observed.requests.keep(request) == {RUN: "first"}
    del request
    gc.collect()
    assert observed.requests.request("job") is None


@pytest.mark.parametrize("is_one_job", [True, False])
def test_requests_that_are_freed_leave_nothing(observed: Observed, is_one_job: bool) -> None:
    """A worker would grow with every job, or with every receipt of one that is delivered again and again."""
    for number in range(3_000):
        observed.requests.keep(request_for(message("job" if is_one_job else f"job {number}")))
    assert len(observed.requests._newest) + len(observed.requests._older) <= 1_001


def test_a_message_that_goes_back_has_its_header_again(observed: Observed) -> None:
    """A job that a stopping worker, or a task, returns to its queue would be created a second time. Pools without an
    event loop return it later, when Celery has freed its request."""
    made = message(**{HEADER: AGENT_HEADER})
    returned = VirtualMessage(
        {
            "body": made.body,
            "headers": made.headers,
            "content-type": made.content_type,
            "content-encoding": made.content_encoding,
            "properties": {**made.properties, "delivery_tag": "tag", "delivery_info": made.delivery_info},
        },
        channel=Connection("memory://").channel(),
    )
    observed.handle(returned, lambda request: observed.requests.keep(request).update({RUN: "w@h/1/a.0", HEAD: "h"}))
    gc.collect()
    assert observed.requests.request("job") is None
    assert returned.serializable()["headers"][HEADER] == AGENT_HEADER
