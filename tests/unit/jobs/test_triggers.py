"""Triggers: each check, in its order, and what becomes of the run."""

from __future__ import annotations

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.local_sluice import LocalSluice
from tests.support.waiting import wait_until
from tests.unit.jobs.conftest import Clock, Project

UNKNOWN = "01a00000-0000-7000-8000-000000000000"


def trigger(project: Project, job: dict[str, Any], status: int = 201, key: str | None = None, **body: Any) -> Any:
    """Trigger a run, with an idempotency key in the header, and return the body of the answer."""
    headers = {} if key is None else {"X-Idempotency-Key": key}
    return project.send("POST", f"/jobs/{job['id']}/trigger", body, status, headers=headers)


def refused(project: Project, job: dict[str, Any], status: int = 400, **body: Any) -> str:
    return project.refused("POST", f"/jobs/{job['id']}/trigger", body, status)


def runs_of(project: Project, **parameters: Any) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = project.send("GET", "/runs", params={"project_id": project.id} | parameters)
    return runs


def later(clock: Clock, **time: float) -> str:
    return (clock.now + timedelta(**time)).isoformat()


def test_a_run_has_what_the_trigger_and_the_job_give(project: Project) -> None:
    """An endpoint would be called without the data, or with the settings of another job."""
    job = project.create(tags={"team": "shop", "kind": "mail"}, default_run_metadata={"region": "eu", "trace": "no"})
    body = {
        "payload": {"to": "a@example.com", "dependency_key": "order-7"},
        "priority": 7,
        "tags": {"kind": "bill"},
        "metadata": {"trace": "yes"},
        "concurrency_key": "customer-1",
    }
    answer = trigger(project, job, key="k", **body)
    run = project.send("GET", f"/runs/{answer['id']}")
    expected = {
        "job_id": job["id"],
        "project_id": project.id,
        "status": "queued",
        "attempt": 1,
        "payload": body["payload"],
        "metadata": {"region": "eu", "dependency_key": "order-7", "trace": "yes"},
        "tags": {"team": "shop", "kind": "bill"},
        "triggered_by": "manual",
        "priority": 7,
        "idempotency_key": "k",
        "concurrency_key": "customer-1",
        "job_version": 1,
        "job_version_id": job["version_id"],
        "created_by": "loopback",
        "debug_mode": False,
        "lineage_depth": 0,
    }
    assert {name: run[name] for name in expected} == expected
    assert run.keys() == {*expected, "id", "created_at"}
    assert {name: answer[name] for name in run} == run
    assert answer.keys() - run.keys() == {"payload_hash", "run_token", "idempotency_hit"}
    assert runs_of(project) == [run]


def test_a_payload_keeps_its_digits_and_has_one_hash(project: Project) -> None:
    """An endpoint would get an amount that is rounded, and the same payload would run twice for the order of its
    keys."""
    job = project.create(dedup_window_secs=60)
    path = f"/jobs/{job['id']}/trigger"
    bodies = (
        b'{"payload": {"b": 1.10, "a": 12345678901234567890123}}',
        b'{"payload":{"a":12345678901234567890123,"b":1.10}}',
    )
    first, second = (project.client.post(path, content=body) for body in bodies)
    text = '{"a":12345678901234567890123,"b":1.10}'
    assert f'"payload":{text}' in first.text
    assert first.json()["payload_hash"] == hashlib.sha256(text.encode()).hexdigest()
    assert (second.json()["id"], second.json()["deduplicated"]) == (first.json()["id"], True)
    other = project.client.post(path, content=b'{"payload": {"a": 12345678901234567890123, "b": 1.1}}')
    assert other.json()["id"] != first.json()["id"]


def test_what_is_absent_is_an_empty_payload(project: Project) -> None:
    """A trigger without a body would be refused by a schema that takes an empty object."""
    job = project.create(payload_schema={"type": "object"})
    for content in (b"", b"{}", b'{"payload": null}'):
        run = project.send("POST", f"/jobs/{job['id']}/trigger", status=201, content=content)
        assert run["payload"] == {}
        assert run["payload_hash"] == hashlib.sha256(b"{}").hexdigest()


def test_the_first_check_that_fails_answers(project: Project, clock: Clock) -> None:
    """A client would repeat a request that can never succeed, as the error names another fault."""
    wrong = {"priority": 11, "scheduled_at": later(clock, days=-1), "payload": []}
    project.refused("POST", f"/jobs/{UNKNOWN}/trigger", wrong, 404)
    job = project.create(payload_schema={"type": "object"}, rate_limit_max=1, rate_limit_window_secs=60)
    project.send("PATCH", f"/jobs/{job['id']}", {"enabled": False})
    assert "disabled" in refused(project, job, **wrong)
    project.send("PATCH", f"/jobs/{job['id']}", {"enabled": True})
    assert "priority" in refused(project, job, **wrong)
    wrong["priority"] = 10
    assert "scheduled_at" in refused(project, job, **wrong)
    del wrong["scheduled_at"]
    assert "payload_schema" in refused(project, job, **wrong)
    trigger(project, job, key="k")
    assert "payload_schema" in project.refused(
        "POST", f"/jobs/{job['id']}/trigger", wrong, headers={"X-Idempotency-Key": "k"}
    )
    assert trigger(project, job, 200, key="k")["idempotency_hit"] is True
    assert "may have 1 runs" in refused(project, job, 429)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", -1),
        ("priority", "1"),
        ("tags", {"x": 1}),
        ("tags", {f"{number}": "" for number in range(20)}),  # with that of the job
        ("metadata", {"x": {}}),
        ("ttl_secs", -1),
        ("ttl_secs", 30 * 86_400 + 1),
        ("concurrency_key", "é" * 129),
        ("idempotency_key", "x" * 257),
        ("idempotency_key", ""),
        ("scheduled_at", "tomorrow"),
        ("scheduled_at", 1_800_000_000),
        ("scheduled_at", "2026-02-27T11:00:00Z"),
        ("scheduled_at", "2026-04-27T11:00:00Z"),
        ("dry_run", 1),
        ("debounce_key", "x"),
    ],
)
def test_a_value_that_can_not_be_right_is_refused(project: Project, field: str, value: Any) -> None:
    """The mistake would show when the run does not come, or comes at another time."""
    job = project.create(tags={"team": "shop"})
    assert field in refused(project, job, **{field: value})
    assert runs_of(project) == []


def test_a_payload_is_checked_against_the_schema(project: Project) -> None:
    """An endpoint would get what it can't process, and the run would fail after its last retry."""
    schema = {"type": "object", "required": ["to"], "properties": {"to": {"type": "string", "pattern": "@"}}}
    job = project.create(payload_schema=schema)
    for payload in ({}, {"to": 1}, {"to": "nobody"}, []):
        assert "does not fit" in refused(project, job, payload=payload)
    assert trigger(project, job, payload={"to": "a@b"})["status"] == "queued"


@pytest.mark.parametrize("source", ["X-Idempotency-Key", "Idempotency-Key", "body"])
def test_a_key_identifies_the_run_for_ever(project: Project, clock: Clock, source: str) -> None:
    """A client that repeats a request after a lost answer would trigger the job twice, also a day later."""
    job = project.create(rate_limit_max=1, rate_limit_window_secs=60)
    path = f"/jobs/{job['id']}/trigger"
    options: dict[str, Any] = {} if source == "body" else {"headers": {source: "order-7"}}
    body = {"idempotency_key": "order-7"} if source == "body" else {}
    first = project.send("POST", path, body, 201, **options)
    project.send("DELETE", f"/runs/{first['id']}")
    clock.pass_(86_400)
    again = project.send("POST", path, body | {"payload": {"other": True}}, 200, **options)
    assert (again["id"], again["status"], again["payload"], again["idempotency_hit"]) == (
        first["id"],
        "canceled",
        {},
        True,
    )
    assert "run_token" not in again
    other = project.create("other")
    assert project.send("POST", f"/jobs/{other['id']}/trigger", body, 201, **options)["id"] != first["id"]
    project.send("DELETE", f"/runs/{first['id']}/idempotency-key", status=204)
    assert project.send("POST", path, body, 201, **options)["id"] != first["id"]
    project.refused("DELETE", f"/runs/{first['id']}/idempotency-key", status=404)


def test_the_key_of_a_header_comes_before_that_of_the_body(project: Project) -> None:
    """A proxy that adds a key would not be heard."""
    job = project.create()
    headers = {"Idempotency-Key": "b", "X-Idempotency-Key": "a"}
    run = project.send("POST", f"/jobs/{job['id']}/trigger", {"idempotency_key": "c"}, 201, headers=headers)
    assert run["idempotency_key"] == "a"
    for key in ("x" * 257, "a\tb"):
        project.refused("POST", f"/jobs/{job['id']}/trigger", {}, headers={"Idempotency-Key": key})


def test_of_triggers_at_once_with_one_key_one_makes_the_run(project: Project) -> None:
    """A client that sends a request twice at once would trigger the job twice, or get an error."""
    job = project.create()
    with ThreadPoolExecutor(8) as pool:
        path = f"/jobs/{job['id']}/trigger"
        answers = list(pool.map(lambda _: project.client.post(path, headers={"Idempotency-Key": "k"}), range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_rate_limit_shows_when_there_is_room(project: Project, clock: Clock) -> None:
    """A client would ask again and again, or wait longer than it must."""
    job = project.create(rate_limit_max=2, rate_limit_window_secs=60)
    first = trigger(project, job)
    project.send("DELETE", f"/runs/{first['id']}")
    clock.pass_(20)
    trigger(project, job)
    answer = project.client.post(f"/jobs/{job['id']}/trigger")
    wait = int(answer.headers["Retry-After"])
    assert (answer.status_code, answer.json()["error"]["code"], wait) == (429, "rate_limited", 40)
    clock.pass_(wait)
    trigger(project, job)
    refused(project, job, 429)


def test_of_triggers_at_once_no_more_are_admitted_than_may_be(project: Project) -> None:
    """A burst would exceed the limit that protects the endpoint."""
    job = project.create(rate_limit_max=3, rate_limit_window_secs=3600)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: project.client.post(f"/jobs/{job['id']}/trigger"), range(12)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 9


def test_the_same_payload_runs_once_in_the_window(project: Project, clock: Clock) -> None:
    """A user who clicks twice would be charged twice."""
    job = project.create(dedup_window_secs=60)
    first = trigger(project, job, payload={"order": 7})
    project.send("DELETE", f"/runs/{first['id']}")
    clock.pass_(50)
    again = trigger(project, job, 200, payload={"order": 7})
    assert (again["id"], again["deduplicated"], again["idempotency_hit"]) == (first["id"], True, False)
    assert trigger(project, job, payload={"order": 8})["id"] != first["id"]
    clock.pass_(10)
    assert trigger(project, job, payload={"order": 7})["id"] != first["id"]


def test_a_run_out_of_the_window_waits_for_it(project: Project, clock: Clock) -> None:
    """A run of the night would call people at home, or a zone would shift the hours of work."""
    clock.now = datetime.fromisoformat("2026-03-02T09:30:20+00:00")  # a Monday, 10:30 in Berlin
    job = project.create(execution_window_cron="0 9-17 * * 1-5", timezone="Europe/Berlin")
    run = trigger(project, job)
    assert (run["status"], run["scheduled_at"]) == ("delayed", "2026-03-02T10:00:00Z")
    run = trigger(project, job, scheduled_at="2026-03-06T17:30:00+01:00")
    assert run["scheduled_at"] == "2026-03-09T08:00:00Z"
    always = project.create("always", execution_window_cron="* 9-17 * * 1-5", timezone="Europe/Berlin")
    assert trigger(project, always)["status"] == "queued"
    assert trigger(project, always, scheduled_at="2026-03-06T16:30:00Z")["scheduled_at"] == "2026-03-06T16:30:00Z"


def test_a_run_expires_after_its_time_and_not_before(project: Project, clock: Clock) -> None:
    """A run that is due in an hour would be expired by then."""

    def seconds(run: dict[str, Any], since: str) -> float:
        return (datetime.fromisoformat(run["expires_at"]) - datetime.fromisoformat(run[since])).total_seconds()

    job, plain = project.create(run_ttl_secs=100), project.create("plain")
    assert seconds(trigger(project, job), "created_at") == 100
    assert seconds(trigger(project, job, ttl_secs=5), "created_at") == 5
    assert seconds(trigger(project, job, scheduled_at=later(clock, hours=1)), "scheduled_at") == 100
    assert "expires_at" not in trigger(project, plain)
    assert "expires_at" not in trigger(project, plain, scheduled_at=later(clock, hours=1))


def test_a_scheduled_run_is_delayed_and_one_of_just_now_is_not(project: Project, clock: Clock) -> None:
    """A run would begin at once in place of its time, or be refused as the client's clock is a second behind."""
    job = project.create()
    at = later(clock, hours=2)
    run = trigger(project, job, scheduled_at=at)
    assert run["status"] == "delayed"
    assert datetime.fromisoformat(run["scheduled_at"]) == datetime.fromisoformat(at)
    assert trigger(project, job, scheduled_at=later(clock, seconds=-2))["status"] == "queued"


def test_a_run_waits_for_what_its_job_depends_on(project: Project) -> None:
    """A report would be made before its data is there; or a run would wait for ever, though all is there."""
    source, report = project.create("source"), project.create("report")
    path = f"/jobs/{report['id']}/dependencies"
    project.send("POST", path, {"depends_on_job_id": source["id"], "condition": "any"}, 201)
    waiting, other = trigger(project, report), trigger(project, report, payload={"dependency_key": "b"})
    assert waiting["status"] == other["status"] == "waiting"
    (standing,) = project.send("GET", f"/runs/{waiting['id']}/dependency-status")
    assert (standing["is_met"], "run_id" in standing) == (False, False)
    ended = trigger(project, source, payload={"dependency_key": "a"})
    project.send("DELETE", f"/runs/{ended['id']}")
    assert project.send("GET", f"/runs/{waiting['id']}")["status"] == "queued"
    assert project.send("GET", f"/runs/{other['id']}")["status"] == "waiting"
    assert trigger(project, report, payload={"dependency_key": "a"})["status"] == "queued"
    (standing,) = project.send("GET", f"/runs/{waiting['id']}/dependency-status")
    assert (standing["is_met"], standing["run_id"], standing["status"]) == (True, ended["id"], "canceled")
    keyed = trigger(project, report, key="k")
    assert keyed["status"] == "waiting"
    of_key = trigger(project, source, key="k")
    project.send("DELETE", f"/runs/{of_key['id']}")
    assert project.send("GET", f"/runs/{keyed['id']}")["status"] == "queued"


def test_a_canceled_run_completes_nothing(project: Project) -> None:
    """A report would be made of data that was never loaded."""
    source, report = project.create("source"), project.create("report")
    project.send("POST", f"/jobs/{report['id']}/dependencies", {"depends_on_job_id": source["id"]}, 201)
    project.send("DELETE", f"/runs/{trigger(project, source)['id']}")
    assert trigger(project, report)["status"] == "waiting"


def test_a_dry_run_shows_what_would_be_and_stores_nothing(project: Project, clock: Clock) -> None:
    """A user could not try a trigger without running the job."""
    job = project.create(
        payload_schema={"type": "object", "required": ["to"]},
        dedup_window_secs=60,
        rate_limit_max=1,
        rate_limit_window_secs=30,
        run_ttl_secs=10,
    )
    at = later(clock, hours=1)
    shown = trigger(project, job, 200, key="k", dry_run=True, payload={"to": "x"}, scheduled_at=at)
    assert shown.keys() == {"job", "payload_hash", "payload", "scheduled_at", "expires_at"}
    assert shown["job"] == job
    assert runs_of(project) == []
    assert "does not fit" in refused(project, job, dry_run=True)
    run = trigger(project, job, payload={"to": "x"})
    assert "may have 1 runs" in refused(project, job, dry_run=True, payload={"to": "x"})
    clock.pass_(31)
    assert run["id"] in trigger(project, job, 200, dry_run=True, payload={"to": "x"})["validation_warnings"][0]
    assert len(runs_of(project)) == 1


def test_the_token_names_the_run_and_its_end(project: Project, server: Any) -> None:
    """An endpoint could not report about its run, or about any other one as well."""
    job = project.create(run_ttl_secs=100)
    run = trigger(project, job)
    _, claims, _ = run["run_token"].split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    created = int(datetime.fromisoformat(run["created_at"]).timestamp())
    assert decoded == {"sub": run["id"], "attempt": 1, "retries": 0, "iat": created, "exp": created + 100}
    assert "run_token" not in json.dumps(runs_of(project))


def bulk(project: Project, job: dict[str, Any], items: list[Any], status: int = 201) -> Any:
    return project.send("POST", f"/jobs/{job['id']}/trigger/bulk", {"items": items}, status)


def test_a_bulk_trigger_makes_all_runs_in_their_order(project: Project) -> None:
    """A client could not tell which run belongs to which item, and they would run in any order."""
    job = project.create(dedup_window_secs=60)
    before = trigger(project, job, key="k", payload={"n": -1})
    items = [{"payload": {"n": number}, "priority": number} for number in range(3)]
    answer = bulk(project, job, [*items, {"idempotency_key": "k"}, {"payload": {"n": 0}}])
    assert (answer["total"], answer["created"]) == (5, 3)
    results = answer["results"]
    made = runs_of(project, batch_id=answer["batch_id"])
    assert [run["id"] for run in made][::-1] == [result["id"] for result in results[:3]]
    assert [run["payload"]["n"] for run in made] == [2, 1, 0]
    assert [bool(result["run_token"]) for result in results] == [True, True, True, False, False]
    assert [result["idempotency_hit"] for result in results] == [False, False, False, True, False]
    assert (results[3]["id"], results[4]["id"]) == (before["id"], results[0]["id"])


@pytest.mark.parametrize(
    "last", [{"priority": 11}, {"payload": 1}, {"scheduled_at": "2020-01-01"}, {"tags": {"": ""}}, {"bogus": 1}]
)
def test_a_bulk_trigger_with_a_bad_last_item_leaves_no_run(project: Project, last: dict[str, Any]) -> None:
    """A client that repeats the corrected request would run the other items twice."""
    job = project.create(payload_schema={"type": "object"})
    body = {"items": [{}, {}, last]}
    assert "2" in project.refused("POST", f"/jobs/{job['id']}/trigger/bulk", body)
    assert runs_of(project) == []


def test_a_bulk_trigger_counts_its_own_items(project: Project) -> None:
    """A single request would exceed the limit that protects the endpoint."""
    job = project.create(rate_limit_max=3, rate_limit_window_secs=60)
    path = f"/jobs/{job['id']}/trigger/bulk"
    assert project.client.post(path, json={"items": [{}] * 4}).headers["Retry-After"] == "60"
    assert runs_of(project) == []
    bulk(project, job, [{}] * 3)
    assert "Item 0" in project.refused("POST", path, {"items": [{}]}, 429)
    for items in ([], [{}] * 501, {}, None):
        project.refused("POST", path, {"items": items})
    project.refused("POST", f"/jobs/{UNKNOWN}/trigger/bulk", {"items": 7}, 404)


def test_a_bulk_trigger_lets_others_go_first(project: Project, server: LocalSluice) -> None:
    """Whoever triggers one run would wait for all that others trigger in bulk."""
    job = project.create()
    jobs_api = next(route.app for route in server.app.routes if getattr(route, "path", "") == "/v1")
    store = jobs_api._opened.calls.state.store
    turns = store.engine.get_execution_options()["turns"]
    with ThreadPoolExecutor(2) as pool, store.writing():
        pool.submit(bulk, project, job, [{}])
        wait_until(lambda: turns.waiting == 1)
        one = pool.submit(trigger, project, job)
        wait_until(lambda: turns.waiting == 2)
    assert runs_of(project)[-1]["id"] == one.result()["id"], "the first"
