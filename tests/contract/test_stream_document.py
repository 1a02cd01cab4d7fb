"""The document of ``GET /api/events/stream``: its events, with the fields of its examples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sluice_agent.server.stream.limits import StreamLimits
from tests.contract.documents.examples import frames
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.unit.server.events import CONNECTION, at, ingest, job_event

EXAMPLES = frames("events_stream")
PATIENCE = 150  # heartbeats that a reader waits for what it wants: 30 s


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server whose heartbeats do not take long."""
    database = tmp_path_factory.mktemp("server") / "sluice.db"
    with local_sluice(database, stream_limits=StreamLimits(tick=0.01, heartbeat=0.2)) as server:
        ingest(server.client(), job_event("queued", 0))
        yield server


def about(subject: str, type_: str, fields: dict[str, Any], seconds: float) -> dict[str, Any]:
    header = {"type": type_, "timestamp": at(seconds), "framework": "celery", "connectionId": CONNECTION}
    return {**header, subject: fields}


def read(client: httpx.Client, wanted: set[str], types: str | None = None) -> dict[str, dict[str, Any]]:
    """Return the data of the first frame of each event in `wanted`, while one of each subject is sent."""
    found: dict[str, dict[str, Any]] = {}
    query = {"connectionId": CONNECTION, **({"types": types} if types else {})}
    has_sent = False
    heartbeats = 0
    with client.stream("GET", "/events/stream", params=query) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        event = ""
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
                heartbeats += event == "heartbeat"
            elif name == "data":
                found.setdefault(event, json.loads(value))
            if not has_sent:  # the stream has begun
                has_sent = True
                send(client)
            if wanted <= set(found) or heartbeats > PATIENCE:
                break
    return found


def send(client: httpx.Client) -> None:
    """Send a transition of a job, a new worker, its heartbeat, and a snapshot of a queue: all of them news."""
    number = next(_numbers)
    worker = {"externalId": f"celery@worker-{number}", "hostname": f"celery@worker-{number}", "activeJobs": 3}
    seconds = number * 10
    ingest(
        client,
        job_event("active" if number % 2 else "retrying", seconds),
        about("worker", "worker_state_change", {**worker, "state": "online"}, seconds + 1),
        about("worker", "worker_heartbeat", {**worker, "state": "heartbeat"}, seconds + 2),
        about("queue", "queue_snapshot", {"name": "default", "depth": 42, "consumers": 4}, seconds + 3),
    )


_numbers = iter(range(1, 100))


def test_every_event_has_the_fields_of_its_example(server: LocalSluice) -> None:
    """A page that was written for the vendor's stream would otherwise show nothing."""
    assert set(EXAMPLES) == {"job:state_change", "worker:heartbeat", "queue:snapshot", "heartbeat"}
    examples = {**EXAMPLES, "worker:state_change": EXAMPLES["worker:heartbeat"]}
    found = read(server.client(), set(examples))
    assert set(found) == set(examples)
    for event, example in examples.items():
        assert list(found[event]) == list(example), event
        assert [type(value) for value in found[event].values()] == [type(value) for value in example.values()], event


@pytest.mark.parametrize(
    ("types", "wanted"),
    [
        ("job", {"job:state_change"}),
        ("worker", {"worker:heartbeat", "worker:state_change"}),
        ("queue", {"queue:snapshot"}),
        ("job,queue", {"job:state_change", "queue:snapshot"}),
    ],
)
def test_only_the_types_that_were_asked_for_are_sent(server: LocalSluice, types: str, wanted: set[str]) -> None:
    """A page that shows one queue would otherwise receive every job; heartbeats keep its connection alive."""
    assert set(read(server.client(), {*wanted, "heartbeat"}, types)) == {*wanted, "heartbeat"}
