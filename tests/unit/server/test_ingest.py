"""Ingest on the wire: accepted and refused requests, and the answers to them."""

from __future__ import annotations

import gzip
import json
import random
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from sluice_agent.server.access.setup import AccessOptions
from tests.unit.server.conftest import Start
from tests.unit.server.events import CONNECTION, counts, ingest, job_event

LIMIT = 5_000_000


def refusal(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return the error in `response`, which must have the documented form."""
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert response.json() == {"error": error}
    assert set(error) - {"details"} == {"code", "message", "docs_url"}
    assert error["code"] == code
    assert response.headers["accept-encoding"] == "gzip"
    return error


def test_answer_has_the_documented_fields(client: httpx.Client) -> None:
    """A strict client would otherwise fail on the answer to its events."""
    answer = ingest(client, job_event("queued", 0), {"type": "nonsense"}, job_event("active", 1))
    assert set(answer) == {"accepted", "rejected", "skipped", "truncated", "usage"}
    assert counts(answer) == (2, 1, 0, 0)
    assert set(answer["usage"]) == {"day", "events", "limit"}
    assert answer["usage"]["events"] == 2


def test_without_a_configured_key_any_ingest_key_is_accepted(start: Start) -> None:
    """A user who tries the project would otherwise need an account first."""
    response = start().post("/ingest", json={"events": []}, headers={"Authorization": "bearer sk_whatever"})
    assert response.status_code == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer pk_1", "Basic sk_right", "sk_right", "Bearer sk_wrong"])
def test_a_wrong_key_is_refused(start: Start, header: str) -> None:
    """Any program that reaches the port could otherwise write into the user's records."""
    client = start(options=AccessOptions(api_key="sk_right"))
    refusal(client.post("/ingest", json={"events": []}, headers={"Authorization": header}), 401, "UNAUTHORIZED")
    response = client.post("/ingest", json={"events": []}, headers={"Authorization": "Bearer sk_right"})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"events": {}}',
        b'{"events": [], "more": 1}',
        b'{"events": [NaN]}',
        b"\xff\xfe\xff",
        b"[" * 100_000,
    ],
)
def test_a_body_that_is_not_a_batch_is_refused(client: httpx.Client, body: bytes) -> None:
    """A broken client would otherwise see a crash, or worse, success."""
    refusal(client.post("/ingest", content=body, headers={"Content-Type": "application/json"}), 400, "VALIDATION_ERROR")


def test_only_json_is_accepted(client: httpx.Client) -> None:
    """A form in a browser could otherwise post."""
    content = json.dumps({"events": []})
    response = client.post("/ingest", content=content, headers={"Content-Type": "text/plain"})
    refusal(response, 400, "VALIDATION_ERROR")


def _without(event: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in names}


DEEP: Any = []
for _ in range(500):
    DEEP = [DEEP]

FAULTY = [
    None,
    7,
    _without(job_event("active", 0), "job"),
    job_event("active", 0) | {"queue": {"name": "q", "depth": 1}},
    job_event("active", 0) | {"timestamp": "2026-02-31T10:00:00Z"},
    job_event("active", 0) | {"timestamp": "2026-02-27T10:00:00+00:00"},
    job_event("active", 0, startedAt="2025-02-29T10:00:00Z"),
    job_event("active", 0, queue=None),
    job_event("active", 0, invented=1),
    job_event("sleeping", 0),
    job_event("active", 0, attempt=0),
    job_event("active", 0, extensions={"deep": DEEP}),
]


def test_faults_of_an_event_never_fail_the_batch(client: httpx.Client) -> None:
    """One odd task would otherwise hold back everything that travels with it."""
    assert counts(ingest(client, *FAULTY, job_event("active", 0))) == (1, len(FAULTY), 0, 0)
    for faulty in FAULTY:
        assert counts(ingest(client, faulty)) == (0, 1, 0, 0), faulty


@pytest.mark.parametrize(
    "number", ["1e999", '"\\ud800"', '"\\u0000"', "1" * 400, pytest.param("9" * 10_000, id="10,000 digits")]
)
def test_odd_values_in_extensions_can_be_read_back(client: httpx.Client, number: str) -> None:
    """A record that was accepted but cannot be shown would otherwise answer 500 for ever."""
    event = json.dumps(job_event("active", 0, event_id="EVENT", extensions={"odd": 0})).replace(
        '"odd": 0', f'"odd": {number}'
    )
    response = client.post("/ingest", content=f'{{"events": [{event}]}}', headers={"Content-Type": "application/json"})
    assert response.status_code == 200
    assert client.get("/jobs/job-1").status_code == 200
    assert client.get("/jobs").status_code == 200


@pytest.mark.parametrize("event_id", ['"\\ud800"', '"\\u0000"', '"é"', '"' + "x" * 100_000 + '"'])
def test_any_text_can_be_an_event_id(client: httpx.Client, event_id: str) -> None:
    """A client with odd ids would otherwise make the server fail, and send the same batch for ever."""
    event = json.dumps(job_event("active", 0, event_id="ID")).replace('"ID"', event_id)
    content = f'{{"events": [{event}, {event}]}}'
    response = client.post("/ingest", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text
    assert counts(response.json()) == (1, 0, 1, 0)


def test_clients_that_send_the_same_at_once_are_counted_once(client: httpx.Client) -> None:
    """Two shippers of one journal would otherwise double events, or meet a locked file."""
    events = [job_event("active", n % 60, event_id=f"e{n}", externalId=f"j{n % 7}") for n in range(200)]
    expected = ingest(client, *events[:1])["accepted"]

    def shuffled(seed: int) -> tuple[int, int]:
        answer = ingest(client, *random.Random(seed).sample(events, len(events)))
        assert client.get("/jobs").status_code == 200
        return answer["accepted"], answer["skipped"]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(shuffled, range(24)))
    assert expected + sum(accepted for accepted, _ in results) == len(events)
    assert sum(skipped for _, skipped in results) == 24 * len(events) - len(events) + 1


@pytest.mark.parametrize("separator", "_.:")
def test_type_names_take_three_separators(client: httpx.Client, separator: str) -> None:
    """Users of the vendor's SDK, which writes job.state_change, would otherwise see nothing."""
    common = {"timestamp": "2026-02-27T10:00:00Z", "framework": "celery", "connectionId": CONNECTION}
    worker = {"externalId": "celery@a", "hostname": "a", "state": "heartbeat"}
    answer = ingest(
        client,
        job_event("active", 0) | {"type": f"job{separator}state_change"},
        {**common, "type": f"worker{separator}heartbeat", "worker": worker},
        {**common, "type": f"worker{separator}state_change", "worker": worker},
        {**common, "type": f"queue{separator}snapshot", "queue": {"name": "q", "depth": 0}},
    )
    assert counts(answer) == (4, 0, 0, 0)


def test_a_repeated_event_is_skipped(client: httpx.Client) -> None:
    """A client that repeats a request after a lost answer would otherwise double every event."""
    event = job_event("active", 0, event_id="one")
    other_connection = event | {"connectionId": "550e8400-e29b-41d4-a716-446655440001"}
    in_capitals = event | {"connectionId": CONNECTION.upper()}
    worker = _without(event, "job") | {
        "type": "worker_heartbeat",
        "worker": {"externalId": "w", "hostname": "h", "state": "idle", "metadata": {"eventId": "two"}},
    }
    assert counts(ingest(client, event, event, worker)) == (2, 0, 1, 0)
    assert counts(ingest(client, event, other_connection, in_capitals, worker)) == (1, 0, 3, 0)
    plain = job_event("active", 0)
    assert counts(ingest(client, plain, dict(reversed(plain.items())), job_event("active", 1))) == (2, 0, 1, 0)
    snapshot = _without(event, "job") | {"type": "queue_snapshot", "queue": {"name": "q", "depth": 1}}
    assert counts(ingest(client, snapshot, snapshot)) == (1, 0, 1, 0)


def _post(client: httpx.Client, body: bytes, encoding: str = "gzip") -> httpx.Response:
    return client.post(
        "/ingest", content=body, headers={"Content-Type": "application/json", "Content-Encoding": encoding}
    )


def test_gzip_is_accepted_and_announced(client: httpx.Client) -> None:
    """The agent would otherwise send ten times the bytes."""
    bodies = [json.dumps({"events": [job_event("active", second)]}).encode() for second in range(2)]
    members = gzip.compress(bodies[1][:20]) + gzip.compress(bodies[1][20:])
    for content in (gzip.compress(bodies[0]), members):
        response = _post(client, content)
        assert counts(response.json()) == (1, 0, 0, 0)
        assert response.headers["accept-encoding"] == "gzip"
    assert client.get("/health").headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize(
    "body",
    [b"no gzip", gzip.compress(b'{"events": []}')[:-9], gzip.compress(b"{}") + b"x"],
    ids=["no gzip", "cut off", "with more behind it"],
)
def test_broken_gzip_is_refused(client: httpx.Client, body: bytes) -> None:
    """A body cut in transit would otherwise be a crash."""
    refusal(_post(client, body), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("member", [gzip.compress(b""), gzip.compress(b" ")], ids=["empty", "a byte each"])
def test_gzip_of_tiny_members_costs_no_more_than_its_size(client: httpx.Client, member: bytes) -> None:
    """Ten seconds of a processor for 4 MB: a few such requests would otherwise stop the server."""
    before = time.process_time()
    refusal(_post(client, member * (4_000_000 // len(member))), 400, "VALIDATION_ERROR")
    assert time.process_time() - before < 3  # seconds; half a second on an idle machine


@pytest.mark.parametrize("size", [100, 70_000])
def test_gzip_of_many_members_is_accepted(client: httpx.Client, size: int) -> None:
    """Programs that compress in blocks, such as pigz and bgzip, would otherwise be refused."""
    error = random.Random(1).randbytes(4_000).hex()
    body = json.dumps({"events": [job_event("active", second / 10, error=error) for second in range(100)]}).encode()
    blocks = [body[start : start + size] for start in range(0, len(body), size)][-900:]
    blocks.insert(0, body[: len(body) - sum(map(len, blocks))])
    assert counts(_post(client, b"".join(map(gzip.compress, blocks))).json())[0] == 100


def test_other_encodings_are_refused(client: httpx.Client) -> None:
    """A client would otherwise get the error that its JSON is broken."""
    refusal(_post(client, zlib.compress(b'{"events": []}'), "deflate"), 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_refused(client: httpx.Client, chunked: bool) -> None:
    """One client could otherwise fill the memory of the server, and would not learn to send less."""
    at_the_limit = b'{"events": []}'.ljust(LIMIT)

    def post(body: bytes) -> httpx.Response:
        content = (body[n : n + 65_536] for n in range(0, len(body), 65_536)) if chunked else body
        return client.post("/ingest", content=content, headers={"Content-Type": "application/json"})

    assert post(at_the_limit).status_code == 200
    refusal(post(at_the_limit + b" "), 413, "PAYLOAD_TOO_LARGE")


def test_a_gzip_bomb_is_refused_within_the_limit(client: httpx.Client) -> None:
    """A few hundred kilobytes could otherwise take gigabytes of memory."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(compressor.compress(bytes(1_000_000)) for _ in range(300)) + compressor.flush()
    assert _post(client, gzip.compress(b'{"events": []}'.ljust(LIMIT))).status_code == 200
    tracemalloc.start()
    try:
        refusal(_post(client, bomb), 413, "PAYLOAD_TOO_LARGE")
        assert tracemalloc.get_traced_memory()[1] < 4 * LIMIT
    finally:
        tracemalloc.stop()
    refusal(_post(client, gzip.compress(b" " * (LIMIT // 2)) * 3), 413, "PAYLOAD_TOO_LARGE")


def test_unknown_addresses_and_methods_answer_in_the_same_form(client: httpx.Client) -> None:
    """A client that reads the error's code would otherwise crash on a mistyped address."""
    refusal(client.get("/nothing"), 404, "NOT_FOUND")
    refusal(client.get("/ingest"), 405, "METHOD_NOT_ALLOWED")


def test_a_fault_of_the_server_answers_in_the_same_form(start: Start, tmp_path: Any) -> None:
    """A full or damaged file would otherwise drop connections instead of asking the client to try again."""
    import sqlite3

    client = start()
    with sqlite3.connect(tmp_path / "0.db") as connection:
        connection.execute("ALTER TABLE usage RENAME TO gone")
    refusal(client.post("/ingest", json={"events": [job_event("active", 0)]}), 500, "INTERNAL_ERROR")
    with sqlite3.connect(tmp_path / "0.db") as connection:
        connection.execute("ALTER TABLE gone RENAME TO usage")
    assert counts(ingest(client, job_event("active", 0))) == (1, 0, 0, 0)
