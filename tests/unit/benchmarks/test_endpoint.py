"""The endpoint that counts what the agent and its peers send."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest

from tests.benchmarks.endpoint import LightEndpoint
from tests.benchmarks.variants import AGENT

EVENTS = (b'{"type":"job_state_change","job":{"state":"%b"}}' % state for state in (b"queued", b"active"))
BODY = b'{"events":[%b]}' % b",".join(EVENTS)


@pytest.fixture
def endpoint() -> Iterator[LightEndpoint]:
    started = LightEndpoint(AGENT.marks)
    yield started
    started.close()


@pytest.mark.parametrize("is_compressed", [False, True])
def test_states_requests_and_bytes_are_counted(endpoint: LightEndpoint, is_compressed: bool) -> None:
    """The page would otherwise claim states for a peer that compresses its requests, or deny them."""
    body = gzip.compress(BODY) if is_compressed else BODY
    headers = {"Content-Encoding": "gzip"} if is_compressed else {}
    with urlopen(Request(f"{endpoint.url}/api/ingest", body, headers)) as response:
        assert json.load(response)["accepted"] == 2
    received = endpoint.received
    assert (received.requests, received.events) == (1, 2)
    assert received.states == {"queued": 1, "active": 1, "completed": 0}
    assert len(body) < received.size < len(body) + 500
