"""A real worker reports the ends of its jobs to Ackly, beside Sluice or alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.ackly import Ackly
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess


@pytest.fixture
def ackly() -> Iterator[Ackly]:
    """A new Ackly. At the end of the test, no request may have broken its contract."""
    server = Ackly()
    yield server
    server.close()
    assert server.faults == []


@pytest.mark.parametrize("alone", [False, True], ids=["beside Sluice", "alone"])
def test_the_end_of_each_job_is_reported_once(
    ackly: Ackly,
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    alone: bool,
) -> None:
    """Otherwise a user who has only Ackly would receive nothing, or every start and every attempt."""
    without = {"SLUICE_API_KEY": "", "SLUICE_CONNECTION_ID": "", "SLUICE_API_URL": ""} if alone else {}
    env = {**ackly.env, **without}
    worker = start_worker(broker="filesystem", env=env)
    sender = producer(broker="filesystem", env=env)
    calls = ("add", 1, 2), ("fail", "no such order"), ("retry_then_succeed", 1), ("retry_exhausted",)
    sent = dict(zip(("success", "failure", "partial", "exhausted"), sender.send_all(*calls), strict=True))
    wait_until(lambda: len(ackly.events) >= len(sent), 40, "not every end was reported", worker.tail)
    assert worker.terminate().code == 0
    events = {event["externalId"]: event for event in ackly.events}
    assert len(ackly.events) == len(events) == len(sent)
    for name, job in sent.items():
        assert events[job]["status"] == {"exhausted": "failure"}.get(name, name)
        assert events[job]["durationMs"] >= 0
        assert events[job]["metadata"]["worker"] == worker.hostname
        assert events[job]["metadata"]["rootId"] == job
    assert events[sent["failure"]]["message"].endswith("failed: ValueError: no such order")
    assert events[sent["exhausted"]]["metadata"]["attempt"] == 3
    assert bool(endpoint.events) is not alone
