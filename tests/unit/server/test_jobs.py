"""Reading: the documented record, and a list whose pages stay correct while jobs are added."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from sluice_agent.model import JobState
from sluice_agent.server.access.principal import Role
from sluice_agent.server.queries.job_filter import PARAMETERS
from sluice_agent.server.record.ids import job_id
from tests.support.local_sluice import local_sluice
from tests.unit.server.events import CONNECTION, at, ingest, job_event

LISTS = ("/queues", "/workers", "/tasks")
DOCUMENTED = [
    "id", "externalId", "framework", "connectionId", "name", "queue", "tags", "state", "stateChangedAt",
    "previousState", "createdAt", "scheduledFor", "startedAt", "completedAt", "durationMs", "workerId", "attempt",
    "maxRetries", "progress", "args", "result", "error", "stacktrace", "parentId", "rootId", "extensions",
    "stateHistory", "recentExecutions",
]  # fmt: skip


def listed(client: httpx.Client, **parameters: Any) -> dict[str, Any]:
    response = client.get("/jobs", params=parameters)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def names(answer: dict[str, Any]) -> list[str]:
    return [job["externalId"] for job in answer["data"]]


def test_the_record_is_the_documented_one(client: httpx.Client) -> None:
    """A program written against the vendor's document would otherwise miss a field."""
    trace = "Traceback (most recent call last):\n  smtp.connect(host, port)"
    ingest(
        client,
        job_event("queued", 0, createdAt=at(0), queue="default", maxRetries=3, event_id="1"),
        job_event("active", 1, startedAt=at(1), attempt=1, workerId="celery@worker-1", event_id="2"),
        job_event("failed", 7, completedAt=at(7), attempt=1, error="E: refused", stacktrace=trace, event_id="3"),
    )
    record = client.get("/jobs/job-1").json()
    assert list(record) == DOCUMENTED
    assert record == {
        "id": job_id(CONNECTION, "job-1"),
        "externalId": "job-1",
        "framework": "celery",
        "connectionId": CONNECTION,
        "name": "app.tasks.send_email",
        "queue": "default",
        "tags": {},
        "state": "failed",
        "stateChangedAt": at(7),
        "previousState": "active",
        "createdAt": at(0),
        "scheduledFor": None,
        "startedAt": at(1),
        "completedAt": at(7),
        "durationMs": 6000,
        "workerId": "celery@worker-1",
        "attempt": 1,
        "maxRetries": 3,
        "progress": None,
        "args": None,
        "result": None,
        "error": "E: refused",
        "stacktrace": trace,
        "parentId": None,
        "rootId": None,
        "extensions": {},
        "stateHistory": [
            {"state": "queued", "timestamp": at(0)},
            {"state": "active", "timestamp": at(1)},
            {"state": "failed", "timestamp": at(7)},
        ],
        "recentExecutions": [],
    }


@pytest.mark.parametrize("late", [6, 8])
def test_the_record_explains_its_present_state_alone(client: httpx.Client, late: int) -> None:
    """A monitor that doubted a job too soon, or too late, would leave "its worker is lost" on one that completed."""
    doubt = {"reason": "no heartbeat for 7 s", "celeryState": "STARTED"}
    ingest(
        client,
        job_event("active", 1, startedAt=at(1), event_id="1"),
        job_event("unknown", late, extensions=doubt, event_id="2"),
        job_event("completed", 7, startedAt=at(1), completedAt=at(7), event_id="3"),
    )
    record = client.get("/jobs/job-1").json()
    assert record["state"] == "completed"
    assert "reason" not in record["extensions"]


def test_a_job_is_found_by_either_id(client: httpx.Client) -> None:
    """Users know only Celery's task id, which may be any text, and links hold Sluice's."""
    for external_id in ("job-1", "sync/user 5%"):
        ingest(client, job_event("active", 0, externalId=external_id))
        by_id = client.get(f"/jobs/{job_id(CONNECTION, external_id)}")
        path = external_id.replace("%", "%25").replace("/", "%2F").replace(" ", "%20")
        assert by_id.json() == client.get(f"/jobs/{path}").json()
        assert by_id.json()["externalId"] == external_id


def test_a_job_that_is_not_there_answers_404(client: httpx.Client) -> None:
    """A client could otherwise not distinguish a mistyped id from a broken server."""
    response = client.get("/jobs/unknown")
    assert response.status_code == 404
    assert response.json() == {
        "error": {
            "code": "NOT_FOUND",
            "message": "Job not found.",
            "docs_url": "https://docs.sluice.sh/troubleshooting/api-errors",
        }
    }


def test_recent_executions_are_the_last_ten_of_the_same_task(client: httpx.Client) -> None:
    """A user who compares a slow job with others would otherwise compare it with another task, or with itself."""
    ingest(client, *(job_event("completed", n, externalId=f"j{n:02}", createdAt=at(n)) for n in range(15)))
    ingest(client, job_event("completed", 20, externalId="other", name="app.tasks.other"))
    recent = client.get("/jobs/j13").json()["recentExecutions"]
    assert [job["externalId"] for job in recent] == ["j14", *(f"j{n:02}" for n in range(12, 3, -1))]
    assert list(recent[0]) == [
        "id", "externalId", "state", "createdAt", "startedAt", "completedAt", "durationMs", "error",
    ]  # fmt: skip


def test_pages_stay_right_while_jobs_come_in(client: httpx.Client) -> None:
    """A user who pages through a busy system would otherwise see jobs twice, or never."""
    ingest(client, *(job_event("active", n // 3, externalId=f"j{n:02}") for n in range(25)))
    everything = names(listed(client))
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for arriving in range(100, 200):
        answer = listed(client, limit=4, **cursor)
        seen += names(answer)
        if answer["pagination"]["nextCursor"] is None:
            break
        cursor = {"cursor": answer["pagination"]["nextCursor"]}
        ingest(client, job_event("active", 300, externalId=f"j{arriving}"))
    assert seen == everything
    assert len(seen) == 25


@pytest.mark.parametrize("sort_order", ["asc", "desc"])
@pytest.mark.parametrize(
    "sort_by",
    ["createdAt", "stateChangedAt", "startedAt", "completedAt", "durationMs", "name", "queue", "state", "worker"],
)
def test_every_order_can_be_paged(client: httpx.Client, sort_by: str, sort_order: str) -> None:
    """A table sorted by another column would otherwise lose the jobs whose value is equal or unknown."""
    for n in range(12):
        state = ("queued", "active", "completed")[n % 3]
        more = {"queue": f"q{n % 2}", "workerId": f"w{n % 3}"} if n % 4 else {}
        if state == "completed":
            ingest(client, job_event("active", 1, externalId=f"j{n}", startedAt=at(1)))
        ingest(client, job_event(state, 2 + n // 5, externalId=f"j{n}", name=f"t{n % 2}", **more))
    complete = listed(client, sortBy=sort_by, sortOrder=sort_order)["data"]
    values = [job["workerId" if sort_by == "worker" else sort_by] for job in complete]
    if sort_by != "createdAt":
        known = [value for value in values if value is not None]
        assert known == sorted(known, reverse=sort_order == "desc")
    paged: list[Any] = []
    cursor: str | None = None
    while cursor is not None or not paged:
        more = {"cursor": cursor} if cursor else {}
        answer = listed(client, sortBy=sort_by, sortOrder=sort_order, limit=5, **more)
        paged += answer["data"]
        cursor = answer["pagination"]["nextCursor"]
    assert paged == complete
    assert len(paged) == 12


def test_filters_and_search_narrow_the_list(client: httpx.Client) -> None:
    """A user who looks for one failure among thousands would otherwise read them all."""
    other = "550e8400-e29b-41d4-a716-446655440001"
    ingest(
        client,
        job_event("failed", 0, externalId="a", error="Timeout: 100% of it", queue="mail", workerId="w1"),
        job_event("active", 1, externalId="b_1", name="app.Report", queue="mail", workerId="w2"),
        job_event("active", 2, externalId="b21") | {"connectionId": other, "framework": "sidekiq"},
    )
    assert names(listed(client, state="failed")) == ["a"]
    assert names(listed(client, queue="mail")) == ["b_1", "a"]
    assert names(listed(client, worker="w2")) == ["b_1"]
    assert names(listed(client, connectionId=other.upper())) == ["b21"]
    assert names(listed(client, framework="sidekiq")) == ["b21"]
    assert names(listed(client, search="report")) == ["b_1"]
    assert names(listed(client, errorClass="Timeout")) == ["a"]
    assert names(listed(client, search="b_1")) == ["b_1"]
    answer = listed(client, queue="mail", limit=1)
    assert answer["pagination"] | {"nextCursor": ""} == {
        "nextCursor": "",
        "limit": 1,
        "total": 2,
        "totalExact": True,
    }


def test_filters_of_time_canvas_and_several_states(client: httpx.Client) -> None:
    """A user who looks for the failures of one hour, or of one group, would otherwise have to sift them by hand."""
    canvas = {"rootId": "root", "groupId": "group"}
    ingest(
        client,
        job_event("completed", 0, externalId="root", createdAt=at(0), extensions={"rootId": "root"}),
        job_event("failed", 60, externalId="a", createdAt=at(60), extensions=canvas),
        job_event("cancelled", 120, externalId="b/1", createdAt=at(120), extensions=canvas),
        job_event("active", 180, externalId="c", createdAt=at(180)),
    )
    assert names(listed(client, state=["failed", "cancelled"])) == ["b/1", "a"]
    assert names(listed(client, state="failed,active")) == ["c", "a"]
    assert names(listed(client, **{"from": at(60), "to": at(120)})) == ["a"]
    assert names(listed(client, rootId="root")) == ["b/1", "a", "root"]
    assert names(listed(client, groupId="group")) == ["b/1", "a"]
    assert names(listed(client, search=job_id(CONNECTION, "b/1"))) == ["b/1"]
    assert names(listed(client, name=["app.tasks.send_email", "other"], sortOrder="asc", limit=1)) == ["root"]


def test_a_path_below_a_job_is_not_its_record(client: httpx.Client) -> None:
    """A client that asks for something else of a job would otherwise get a record, or that of another job."""
    ingest(client, *(job_event("active", 0, externalId=name) for name in ("a", "a/retry")))
    assert client.get("/jobs/a/other").status_code == 404
    assert client.get("/jobs/a/retry").status_code == 405
    assert client.get("/jobs/a%2Fretry").json()["externalId"] == "a/retry"
    assert client.get("/jobs/").status_code == 404


def _forged(position: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "many"),
        ("state", "asleep"),
        ("connectionId", "7"),
        ("framework", "cron"),
        ("sortBy", "error"),
        ("sortOrder", "sideways"),
        ("cursor", "%%%"),
        ("cursor", "é"),
        ("cursor", _forged(["name", "desc", "x", "y"])),
        ("cursor", _forged(["createdAt", "asc", "x", "y"])),
        ("cursor", _forged(["createdAt", "desc", "x", "y"])),
        ("cursor", _forged({"a": 1})),
        ("cursor", _forged(["createdAt", "desc", True, 5, 6])),
        ("cursor", _forged(["createdAt", "desc", 2**63, 5, 6])),
        ("cursor", "x" * 1_001),
        ("search", "x" * 501),
        ("search", "\0"),
        ("from", "yesterday"),
        ("to", "2026-02-31T10:00:00Z"),
    ],
)
def test_bad_parameters_are_named(client: httpx.Client, name: str, value: str) -> None:
    """A user would otherwise get an empty list for a mistyped parameter and believe it."""
    response = client.get("/jobs", params={name: value})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "VALIDATION_ERROR"
    assert list(error["details"]) == [name]


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        ("/jobs", "limit", ("1", "2")),
        ("/jobs", "connectionId", (CONNECTION, CONNECTION)),
        ("/queues", "timeRange", ("1h", "24h")),
        ("/workers", "state", ("online", "offline")),
        ("/tasks", "from", (at(0), at(1))),
        ("/events/stream", "connectionId", (CONNECTION, CONNECTION)),
    ],
)
def test_a_parameter_that_comes_twice_is_named(
    client: httpx.Client, path: str, name: str, values: tuple[str, str]
) -> None:
    """Of two values one would count, and the user believe in the other."""
    response = client.get(path, params=[(name, value) for value in values])
    assert response.status_code == 400
    assert list(response.json()["error"]["details"]) == [name]


def test_health_counts_events_and_jobs(client: httpx.Client) -> None:
    """A probe could otherwise not distinguish a server that stores events from one that only answers."""
    ingest(client, job_event("queued", 0), job_event("completed", 1), job_event("active", 1, externalId="b"))
    health = httpx.get(f"{client.base_url}health").json()
    assert (health["status"], health["counts"]) == ("ok", {"events": 3, "jobs": 2})
    assert health["reachesBackTo"] == at(0)
    assert health["version"]


def test_a_key_reads_its_own_connection_only(tmp_path: Path) -> None:
    """A team that shares a server would otherwise see the jobs of another one."""
    other = "550e8400-e29b-41d4-a716-446655440001"
    with local_sluice(tmp_path / "s.db") as server:
        ingest(
            server.client(),
            job_event("active", 0, externalId="a"),
            job_event("active", 0, externalId="b") | {"connectionId": other},
        )
        accounts = server.access.accounts
        key = accounts.create_key(accounts.open_connection(CONNECTION)[0], Role.VIEWER)
        client = server.client({"Authorization": f"Bearer {key.secret}"})
        assert names(listed(client)) == names(listed(client, connectionId=CONNECTION)) == ["a"]
        assert client.get("/jobs", params={"connectionId": other}).status_code == 403
        assert client.get("/jobs/a").status_code == 200
        assert client.get("/jobs/b").status_code == client.get(f"/jobs/{job_id(other, 'b')}").status_code == 404
        assert [client.get(path, params={"connectionId": other}).status_code for path in LISTS] == [403] * len(LISTS)


def test_the_filters_are_in_the_description(client: httpx.Client) -> None:
    """A client that is generated from the description would lack filters."""
    paths = client.get("/openapi.json").json()["paths"]
    parameters = {parameter["name"]: parameter for parameter in paths["/api/jobs"]["get"]["parameters"]}
    assert set(PARAMETERS) <= set(parameters)
    assert parameters["state"]["schema"]["items"]["enum"] == [state.value for state in JobState]
