"""The document of ``GET /api/events/stream``: its events and parameters against a real server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sluice_agent.server.stream.limits import StreamLimits
from tests.contract import documents
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.stream_client import ReceivedFrame, open_stream
from tests.unit.server.events import CONNECTION, ingest, job_event

DOCUMENT = (Path(documents.__file__).parent / "events_stream.txt").read_text(encoding="utf-8")
EXAMPLES: dict[str, Any] = {
    event: json.loads(data) for event, data in re.findall(r"^event: (\S+)\ndata: (.+)$", DOCUMENT, re.MULTILINE)
}
EVENTS = re.findall(r"^(job:state_change|worker:\w+?_?\w+?|queue:snapshot|heartbeat)[A-Z]", DOCUMENT, re.MULTILINE)
TIME = "2026-02-27T10:30:00.000Z"


def worker_event(kind: str, state: str, second: int) -> dict[str, Any]:
    """Return an event of the worker in the document's example."""
    example = EXAMPLES["worker:heartbeat"]
    return {
        "type": kind,
        "timestamp": f"2026-02-27T10:30:{second:02}Z",
        "framework": "celery",
        "connectionId": CONNECTION,
        "worker": {"externalId": "w", "hostname": example["hostname"], "state": state, "activeJobs": 3},
    }


@pytest.fixture(scope="module")
def sluice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSluice]:
    """A server with one job, whose heartbeats come soon."""
    database = tmp_path_factory.mktemp("stream") / "sluice.db"
    with local_sluice(database, stream_limits=StreamLimits(heartbeat=0.3)) as server:
        ingest(server.client(), job_event("active", 0, externalId="1"), worker_event("worker_heartbeat", "online", 0))
        yield server


@pytest.fixture(scope="module")
def received(sluice: LocalSluice) -> dict[str, ReceivedFrame]:
    """A frame of each event, for what the document's examples describe."""
    snapshot = {"type": "queue_snapshot", "timestamp": TIME, "framework": "celery", "connectionId": CONNECTION}
    client = sluice.client()
    frames: dict[str, ReceivedFrame] = {}
    with open_stream(f"{sluice.url}/api", timeout=10, connectionId=CONNECTION) as stream:
        next(stream.frames())
        ingest(
            client,
            {**job_event("completed", 0, externalId="1"), "timestamp": TIME},
            worker_event("worker_heartbeat", "online", 1),
            worker_event("worker_state_change", "offline", 2),
            {**snapshot, "queue": EXAMPLES["queue:snapshot"]},
        )
        for frame in (*stream.take(4), *stream.take(1, heartbeats=True)):
            frames[frame.event] = frame
    return frames


def test_the_document_is_read() -> None:
    """A document that is no longer understood would check nothing."""
    assert list(EXAMPLES) == ["job:state_change", "worker:heartbeat", "queue:snapshot", "heartbeat"]
    assert EVENTS == ["job:state_change", "worker:heartbeat", "worker:state_change", "queue:snapshot", "heartbeat"]


@pytest.mark.parametrize("event", EXAMPLES)
def test_an_event_has_the_documented_fields(received: dict[str, ReceivedFrame], event: str) -> None:
    """A page of the vendor's could not show what it reads under another name, or in another form."""
    fields, example = received[event].fields, EXAMPLES[event]
    assert list(fields) == list(example)
    assert [type(value) for value in fields.values()] == [type(value) for value in example.values()]
    known = {name: value for name, value in example.items() if name not in ("id", "timestamp")}
    assert {name: fields[name] for name in known} == known


def test_times_are_in_the_documented_form(received: dict[str, ReceivedFrame]) -> None:
    """A client that reads milliseconds and Z would fail on another form."""
    assert received["job:state_change"].fields["timestamp"] == EXAMPLES["job:state_change"]["timestamp"] == TIME
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", received["heartbeat"].fields["timestamp"])


def test_the_id_is_that_of_the_job(sluice: LocalSluice, received: dict[str, ReceivedFrame]) -> None:
    """From a change on the stream a page could not open the job."""
    record = sluice.client().get(f"/jobs/{received['job:state_change'].fields['id']}").json()
    assert (record["externalId"], record["state"]) == ("1", "completed")
