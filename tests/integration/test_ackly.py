"""A real worker tells Ackly how its jobs ended, beside Sluice or alone."""

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
    """A fresh Ackly. When the test is over, nothing that it was sent may have broken its contract."""
    server = Ackly()
    yield server
    server.close()
    assert server.faults == []


@pytest.mark.parametrize("alone", [False, True], ids=["beside Sluice", "alone"])
def test_how_each_job_ended_is_told_once(
    ackly: Ackly,
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    alone: bool,
) -> None:
    """Without it a user who only has Ackly hears nothing, or hears of every start and every attempt."""
    without = {"SLUICE_API_KEY": "", "SLUICE_CONNECTION_ID": "", "SLUICE_API_URL": ""} if alone else {}
    env = {**ackly.env, **without}
    worker = start_worker(broker="filesystem", env=env)
    sender = producer(broker="filesystem", env=env)
    sent = {
        "success": sender.send("add", 1, 2),
        "failure": sender.send("fail", "no such order"),
        "partial": sender.send("retry_then_succeed", 1),
        "exhausted": sender.send("retry_exhausted"),
    }
    wait_until(lambda: len(ackly.events) >= len(sent), 40, "not every end was told", worker.tail)
    assert worker.terminate().code == 0
    found = {event["externalId"]: event for event in ackly.events}
    assert len(ackly.events) == len(found) == len(sent)
    for name, job in sent.items():
        assert found[job]["status"] == {"exhausted": "failure"}.get(name, name)
        assert found[job]["durationMs"] >= 0
        assert found[job]["metadata"]["worker"] == worker.hostname
        assert found[job]["metadata"]["rootId"] == job
    assert found[sent["failure"]]["message"].endswith("failed: ValueError: no such order")
    assert found[sent["exhausted"]]["metadata"]["attempt"] == 3
    assert bool(endpoint.events) is not alone
