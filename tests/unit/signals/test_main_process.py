"""Jobs that a worker receives, puts back, or can't execute, as its main process sees them."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker.request import Request

from sluice_agent.signals.agent_header import CREATED_AT, HEADER, PUBLISHED_AT, REPLACEMENTS, RUN
from sluice_agent.signals.main_process import MainProcess
from tests.unit.signals.observed import STARTED, WORKER, Observed, app, message, task


@pytest.fixture
def observed() -> Observed:
    return Observed()


def main_process(observed: Observed) -> MainProcess:
    return MainProcess(observed.sink, observed.recorder, observed.names, observed.requests, observed.runs)


def received(observed: Observed, **headers: Any) -> Request:
    """Handle the receipt of a message as Celery does, and return its request."""
    return observed.handle(message(**headers), main_process(observed).received)


@pytest.mark.parametrize(("eta", "state"), [(None, "queued"), ("2020-01-01T00:00:00+00:00", "scheduled")])
def test_a_job_of_a_producer_without_the_agent_is_reported_as_waiting(
    observed: Observed, eta: str | None, state: str
) -> None:
    """It would appear only when it starts, which a job with an ETA does hours later."""
    received(observed, eta=eta)
    assert observed.walk == state


@pytest.mark.parametrize("by_producer", [{CREATED_AT: STARTED}, {REPLACEMENTS: "1", PUBLISHED_AT: STARTED}])
def test_a_job_that_its_producer_has_reported_is_not_reported_again(
    observed: Observed, by_producer: dict[str, str]
) -> None:
    """Each job would cost one event more of the daily allowance."""
    request = received(observed, **{HEADER: by_producer})
    assert observed.jobs == []
    assert RUN in observed.requests.of_request(request)


def test_a_replacement_that_its_producer_has_not_reported_waits_again(observed: Observed) -> None:
    """The job seems to run while its replacement waits."""
    received(observed, **{HEADER: {CREATED_AT: STARTED, REPLACEMENTS: "1"}})
    assert (observed.walk, observed.last["requeued"]) == ("queued", True)


def test_two_receipts_of_one_message_are_two_runs(observed: Observed) -> None:
    """A job that is delivered again would have one run with two starts."""
    names = {observed.requests.of_request(received(observed))[RUN] for _ in range(2)}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("details", "extensions"),
    [
        ({"terminated": True, "signum": signal.SIGTERM}, {"terminated": True, "signum": "15"}),
        ({"terminated": True, "signum": "SIGKILL"}, {"terminated": True, "signum": "SIGKILL"}),
        ({"expired": True}, {"expired": True}),
        ({}, {}),
    ],
)
def test_a_revoked_job_is_cancelled(observed: Observed, details: dict[str, Any], extensions: dict[str, Any]) -> None:
    """A job that was revoked, or has expired, would wait for ever; nobody would see why."""
    request = observed.receive()
    main_process(observed).revoked(sender=task, request=request._context, **details)
    assert observed.walk == "cancelled"
    assert observed.last["extensions"] | extensions == observed.last["extensions"]
    assert len(observed.last["extensions"]) == len(extensions) + 3  # rootId, celeryState, eventId


def test_a_job_of_an_unknown_task_has_failed(observed: Observed) -> None:
    """A deployment that lacks a task would leave its jobs waiting."""
    sender = SimpleNamespace(app=app, hostname=WORKER)
    main_process(observed).unknown(sender=sender, message=message(), name="shop.unknown", id="job")
    assert (observed.walk, observed.last["error"]) == ("failed", "NotRegistered: 'shop.unknown'")
    assert (observed.last["name"], observed.last["queue"]) == ("shop.unknown", "celery")


def test_a_job_of_task_protocol_1_of_an_unknown_task_has_failed(observed: Observed) -> None:
    """Its fields are in the message's body."""
    sender = SimpleNamespace(app=app, hostname=WORKER)
    old = SimpleNamespace(headers=None, payload={"task": "shop.unknown", "retries": 2}, delivery_info={})
    main_process(observed).unknown(sender=sender, message=old, name="shop.unknown", id="job")
    assert (observed.walk, observed.last["attempt"]) == ("failed", 3)


def test_a_message_that_is_no_task_is_a_failed_job(observed: Observed) -> None:
    """A producer that writes nonsense would see its jobs neither run nor fail."""
    sender = SimpleNamespace(app=app, hostname=WORKER)
    malformed = SimpleNamespace(headers={"task": 5}, payload={}, properties={"correlation_id": "job"}, delivery_info={})
    main_process(observed).malformed(sender=sender, message=malformed, exc=ValueError("boom"))
    assert (observed.last["state"], observed.last["celeryState"]) == ("failed", "REJECTED")
    assert observed.last["error"] == "InvalidTaskError: boom"


def test_a_message_without_an_id_is_counted(observed: Observed) -> None:
    """No job can be named; the figures would not show that something was lost."""

    class Unreadable:
        headers, properties = None, {}

        @property
        def payload(self) -> Any:
            raise ValueError("not JSON")

    main_process(observed).malformed(sender=SimpleNamespace(app=app, hostname=WORKER), message=Unreadable())
    assert (observed.jobs, observed.dropped) == ([], ["malformed_message"])


@pytest.mark.parametrize(
    ("requeue", "is_acknowledged", "walk"), [(True, False, "queued"), (False, False, ""), (True, True, "")]
)
def test_a_message_that_goes_back_to_its_queue_is_queued_again(
    observed: Observed, requeue: bool, is_acknowledged: bool, walk: str
) -> None:
    """A job whose process was lost would seem to run while it waits, or to wait when it is gone."""
    main_process(observed).patch_requeues()
    request = observed.receive()
    request.acknowledged = is_acknowledged
    request.reject(requeue=requeue)
    assert observed.walk == walk
    if walk:
        assert observed.last["requeued"] is True


def test_an_ignored_task_is_not_reported() -> None:
    """A user who ignores a task would see it waiting for ever."""
    observed = Observed(ignored=task.name)
    request = received(observed)
    main = main_process(observed)
    main.revoked(sender=task, request=request._context)
    main.patch_requeues()
    request.reject(requeue=True)
    assert observed.jobs == []
