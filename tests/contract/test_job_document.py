"""The document of ``GET /api/jobs/{id}``: its example, from the events that lead to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contract.documents.examples import bodies, types
from tests.support.local_sluice import local_sluice

RECORD, NOT_FOUND = bodies("job")
TYPES = types("job")
del TYPES["id"]  # a parameter of the path, from another table
JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server with the two jobs of the example, and one of which little is known."""
    with local_sluice(tmp_path_factory.mktemp("server") / "sluice.db") as server:
        client = server.client()
        (other,) = RECORD["recentExecutions"]
        common = {"queue": RECORD["queue"], "maxRetries": RECORD["maxRetries"], "attempt": RECORD["attempt"]}
        failed = {name: RECORD[name] for name in ("workerId", "error", "stacktrace")}
        completed = {"workerId": RECORD["workerId"]}
        events = [*walk(RECORD, common, failed), *walk({**RECORD, **other}, common, completed)]
        little = {"externalId": "little", "name": "app.tasks.other", "state": "active"}
        events.append(event(little, "2026-02-27T08:00:00.000Z"))
        response = client.post("/ingest", json={"events": events})
        assert response.json()["accepted"] == len(events), response.text
        yield client


def walk(job: dict[str, Any], common: dict[str, Any], end: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the events of a job like `job`: queued, active, and its end."""
    fields = {"externalId": job["externalId"], "name": RECORD["name"], **common}
    created, started, ended = (job[name] for name in ("createdAt", "startedAt", "completedAt"))
    yield event({**fields, "state": "queued", "createdAt": created}, created)
    yield event({**fields, "state": "active", "startedAt": started}, started)
    yield event({**fields, **end, "state": job["state"], "completedAt": ended}, ended)


def event(job: dict[str, Any], timestamp: str) -> dict[str, Any]:
    header = {"type": "job_state_change", "framework": RECORD["framework"], "connectionId": RECORD["connectionId"]}
    return {**header, "timestamp": timestamp, "job": job}


def test_the_record_is_the_example(client: httpx.Client) -> None:
    """A client that was written from the document would otherwise fail on a field, a null or the form of a time."""
    record = client.get(f"/jobs/{RECORD['externalId']}").json()
    assert uuid.UUID(record["id"])
    (execution,) = record["recentExecutions"]
    assert uuid.UUID(execution["id"])
    assert client.get(f"/jobs/{record['id']}").json() == record
    assert list(record) == list(RECORD)
    (other,) = RECORD["recentExecutions"]
    shown = {**record, "id": RECORD["id"], "recentExecutions": [{**execution, "id": other["id"]}]}
    assert shown == RECORD


def test_fields_have_their_types_also_if_little_is_known(client: httpx.Client) -> None:
    """A field that is absent, or null where the document has none, would break a typed client."""
    assert len(TYPES) == 13
    record = client.get("/jobs/little").json()
    assert list(record) == list(RECORD)
    for name, type_ in TYPES.items():
        if type_ == "any" or (type_.endswith("?") and record[name] is None):
            continue
        assert isinstance(record[name], JSON_TYPES[type_.rstrip("?")]), name
    assert record["createdAt"] is not None


def test_an_unknown_job_is_the_documented_error(client: httpx.Client) -> None:
    """A client that reads the code would otherwise not recognise a job that is gone."""
    response = client.get(f"/jobs/{uuid.uuid4()}")
    assert response.status_code == 404
    assert response.json() == NOT_FOUND
