"""The endpoint behaves, and misbehaves, as scripted."""

from __future__ import annotations

import gzip
import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support import misbehaviour
from tests.support.endpoint import Endpoint

CONNECTION = str(uuid.uuid4())
KEY = {"Authorization": "Bearer sk_test"}


def job_event(number: int, state: str = "queued", at: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {
        "type": "job_state_change",
        "timestamp": at,
        "framework": "celery",
        "connectionId": CONNECTION,
        "job": {
            "externalId": f"job-{number}",
            "name": "app.add",
            "state": state,
            "attempt": 1,
            "extensions": {"eventId": f"{number}-{state}"},
        },
    }


@pytest.fixture
def server() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.close()


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(headers=KEY, timeout=5, trust_env=False) as client:
        yield client


def post(client: httpx.Client, server: Endpoint, *events: dict[str, Any], **options: Any) -> httpx.Response:
    return client.post(f"{server.url}/ingest", json={"events": list(events)}, **options)


def test_it_accepts_once_and_counts(server: Endpoint, client: httpx.Client) -> None:
    """Without deduplication by id the tests could not distinguish a repeated event from a second one."""
    answer = post(client, server, job_event(1), job_event(2)).json()
    assert (answer["accepted"], answer["skipped"], answer["rejected"], answer["truncated"]) == (2, 0, 0, 0)
    assert post(client, server, job_event(2), job_event(3)).json()["skipped"] == 1
    assert sorted(server.jobs()) == ["job-1", "job-2", "job-3"]
    assert [event["job"]["externalId"] for event in server.duplicates] == ["job-2"]
    assert server.faults == []


def test_walks_are_sorted_by_time(server: Endpoint, client: httpx.Client) -> None:
    """Events may arrive in any order; a user reads a job's life by its timestamps."""
    late, early = "2026-01-01T00:00:00.25Z", "2026-01-01T00:00:00.125Z"
    post(client, server, job_event(1, "completed", late), job_event(1, "active", early), job_event(1))
    assert server.walk("job-1") == [("queued", 1), ("active", 1), ("completed", 1)]


def test_faults_and_keys_are_checked(server: Endpoint, client: httpx.Client) -> None:
    """A breach of the contract must be found even in a test that ignores the answers."""
    broken = {**job_event(1), "timestamp": "2026-01-01T00:00:00+00:00"}
    assert post(client, server, broken).json()["rejected"] == 1
    assert post(client, server, headers={"Authorization": "Bearer sk_other"}).status_code == 401
    assert client.post(f"{server.url}/other").status_code == 404
    assert client.post(f"{server.url}/ingest", content=b"{", headers={"Content-Type": "application/json"}).is_error
    faults = "\n".join(server.faults)
    assert "not ISO 8601 with Z" in faults
    assert "not '/api/ingest'" in faults
    assert "body is not JSON" in faults


@pytest.mark.parametrize(
    "behaviour", [misbehaviour.reset_before, misbehaviour.lost_answer, misbehaviour.reset_mid_answer]
)
def test_resets_reach_the_client(server: Endpoint, client: httpx.Client, behaviour: misbehaviour.Behaviour) -> None:
    """Lost answers are the hardest case for an agent that promises neither loss nor duplicates."""
    server.script(behaviour)
    with pytest.raises(httpx.TransportError):
        post(client, server, job_event(1))
    accepted = behaviour is not misbehaviour.reset_before
    assert len(server.events) == accepted
    assert server.requests[0].status is None
    assert post(client, server, job_event(1)).json()["skipped"] == accepted


def test_scripts_precede_the_standing_behaviour(server: Endpoint, client: httpx.Client) -> None:
    """A test scripts a fault for one request and relies on the next one being served."""
    server.standing(misbehaviour.status(500))
    server.script(misbehaviour.too_many("7"), misbehaviour.html(), misbehaviour.rubbish())
    first = post(client, server)
    assert (first.status_code, first.headers["Retry-After"]) == (429, "7")
    assert post(client, server).headers["Content-Type"] == "text/html"
    with pytest.raises(json.JSONDecodeError):
        post(client, server).json()
    assert [post(client, server).status_code for _ in range(2)] == [500, 500]
    server.standing()
    assert post(client, server, job_event(1)).json()["accepted"] == 1


def test_limits_poison_and_counts(server: Endpoint, client: httpx.Client) -> None:
    """Batches are split and bisected against these answers; a wrong one would hide a lost event."""
    server.standing(
        misbehaviour.limits(2000), misbehaviour.poisoned_by(lambda event: event["job"]["externalId"] == "job-66")
    )
    assert post(client, server, *(job_event(number) for number in range(20))).status_code == 413
    assert post(client, server, job_event(66)).status_code == 400
    assert post(client, server, job_event(1)).status_code == 200
    server.standing(misbehaviour.rejects(lambda event: event["job"]["externalId"] == "job-2"))
    assert post(client, server, job_event(2), job_event(3)).json()["rejected"] == 1
    server.standing(misbehaviour.truncates(1))
    assert post(client, server, job_event(4), job_event(5)).json()["truncated"] == 1
    assert sorted(server.jobs()) == ["job-1", "job-3", "job-4"]


def test_hanging_and_dripping(server: Endpoint, client: httpx.Client) -> None:
    """An server that never answers stops agents whose timeouts are per read."""
    server.script(misbehaviour.hangs(), misbehaviour.drips(0.01))
    with pytest.raises(httpx.ReadTimeout):
        post(client, server, job_event(1), timeout=0.2)
    server.release()
    with client.stream("POST", f"{server.url}/ingest", json={"events": [job_event(1)]}) as response:
        pieces = list(response.iter_raw())
    assert len(pieces) > 1  # however slowly the machine runs, no read waits for the whole
    assert json.loads(b"".join(pieces))["accepted"] == 1


def test_down_refuses_and_up_serves_on_the_same_port(server: Endpoint, client: httpx.Client) -> None:
    """Outages are tested by real refusals on the port that the agent was given."""
    port = server.port
    post(client, server, job_event(1))
    server.down()
    for _ in range(2):
        with pytest.raises(httpx.TransportError):
            post(client, server, job_event(2))
    with pytest.raises(httpx.ConnectError):
        post(client, server, job_event(2))
    server.up()
    assert server.port == port
    assert post(client, server, job_event(2)).json()["accepted"] == 1


def test_gzip_only_when_announced(server: Endpoint, client: httpx.Client) -> None:
    """An agent that compresses unasked loses every event at a server that can't decompress."""
    body = gzip.compress(json.dumps({"events": [job_event(1)]}).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert client.post(f"{server.url}/ingest", content=body, headers=headers).status_code == 415
    server.takes_gzip = True
    answer = client.post(f"{server.url}/ingest", content=body, headers=headers)
    assert answer.json()["accepted"] == 1
    assert answer.headers["Accept-Encoding"] == "gzip"


def test_half_a_request_is_ignored(server: Endpoint, client: httpx.Client) -> None:
    """A process that is killed while it sends has broken no contract."""
    with socket.create_connection(("127.0.0.1", server.port)) as killed:
        killed.sendall(b'POST /api/ingest HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"events":[')
        killed.shutdown(socket.SHUT_WR)
        assert killed.recv(1) == b""
    post(client, server, job_event(1))
    assert [request.status for request in server.requests] == [200]
    assert server.faults == []
