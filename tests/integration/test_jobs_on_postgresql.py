"""The jobs API of two servers on one PostgreSQL: what they do at once has one outcome, whichever is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import Connection, text

from sluice_agent.jobs.engine import moves
from sluice_agent.jobs.engine.claim import JobCache, claim_runs
from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.jobs.engine.stale import release_all
from sluice_agent.jobs.execution.beat import note_beat
from sluice_agent.jobs.runs.named_limits import limit_without_room
from sluice_agent.jobs.store.store import SCHEMA, TABLES
from sluice_agent.server.store.database import open_database
from tests.integration.test_pages_on_postgresql import operator_of, send
from tests.support.html import parse_html
from tests.support.job_attempts import FAILURE, Attempts
from tests.support.jobs_migrations import assert_each_revision_is_upgraded, fill
from tests.support.jobs_together import check_requests_together
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import SECRET, WebhookReceiver, is_signed

JOB = {"project_id": "shop", "name": "Mail", "endpoint_url": "http://127.0.0.1:9/"}
AT_ONCE = 16


@pytest.fixture
def servers(new_postgresql: str) -> Iterator[list[LocalSluice]]:
    """Two servers."""
    with local_sluice(new_postgresql, has_jobs=True) as first, local_sluice(new_postgresql, has_jobs=True) as second:
        yield [first, second]


@pytest.fixture
def clients(servers: list[LocalSluice]) -> list[httpx.Client]:
    """A client of each."""
    return [server.client(path="/v1") for server in servers]


def at_once(clients: list[httpx.Client], send: Callable[[httpx.Client, int], httpx.Response]) -> list[httpx.Response]:
    """Return the answers to requests that are sent to both servers at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda number: send(clients[number % 2], number), range(AT_ONCE)))


def statuses(answers: list[httpx.Response]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


def create(client: httpx.Client, slug: str, **fields: Any) -> str:
    """Create a job and return its id."""
    answer = client.post("/jobs", json=JOB | {"slug": slug} | fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def test_what_both_do_at_once_has_one_outcome(clients: list[httpx.Client], new_postgresql: str) -> None:
    """Behind a balancer a job would be made twice, run twice for one key, or exceed its limits."""
    made = at_once(clients, lambda client, _: client.post("/jobs", json=JOB | {"slug": "mail"}))
    assert statuses(made) == [201] + [409] * (AT_ONCE - 1)
    job = clients[0].get("/jobs", params={"project_id": "shop"}).json()[0]["id"]
    key = {"Idempotency-Key": "k"}
    keyed = at_once(clients, lambda client, _: client.post(f"/jobs/{job}/trigger", headers=key))
    assert statuses(keyed) == [200] * (AT_ONCE - 1) + [201]
    assert len({answer.json()["id"] for answer in keyed}) == 1
    limited = create(clients[0], "limited", rate_limit_max=3, rate_limit_window_secs=3600)
    admitted = at_once(clients, lambda client, _: client.post(f"/jobs/{limited}/trigger"))
    assert statuses(admitted) == [201] * 3 + [429] * (AT_ONCE - 3)
    single = create(clients[0], "single", dedup_window_secs=3600)
    alike = at_once(clients, lambda client, _: client.post(f"/jobs/{single}/trigger", json={"payload": {"a": 1}}))
    assert statuses(alike) == [200] * (AT_ONCE - 1) + [201]
    changed = at_once(clients, lambda client, number: client.patch(f"/jobs/{job}", json={"name": f"{number}"}))
    assert statuses(changed) == [200] * AT_ONCE
    versions = clients[1].get(f"/jobs/{job}/versions").json()
    assert [version["version"] for version in versions] == list(range(AT_ONCE + 1, 0, -1))
    run = keyed[0].json()["id"]
    assert statuses(at_once(clients, lambda client, _: client.delete(f"/runs/{run}"))) == [200] + [409] * (AT_ONCE - 1)
    with psycopg.connect(new_postgresql) as connection:
        schemas = connection.execute("SELECT table_schema FROM information_schema.tables WHERE table_name = 'run'")
        assert schemas.fetchall() == [("sluice_jobs",)]


def test_a_form_that_both_get_is_sent_once(servers: list[LocalSluice], clients: list[httpx.Client]) -> None:
    """A double click, which a balancer spreads over two servers, would trigger or replay a run twice."""
    job = create(clients[0], "mail")
    browsers = [operator_of(server) for server in servers]
    runs = []
    for path in (f"/definitions/{job}/trigger", "/runs/{}/replay-as-new"):
        page = parse_html(browsers[0].get(path.format(*runs)).text)
        answers = at_once(browsers, lambda browser, _, page=page: send(browser, page, payload='{"a": 1}'))
        assert statuses(answers) == [303] * AT_ONCE, answers[-1].text
        (place,) = {answer.headers["Location"] for answer in answers}
        runs = [place.removeprefix("/runs/").partition("?")[0]]
        with psycopg.connect(str(servers[0].database)) as connection:
            connection.execute("UPDATE sluice_jobs.run SET status = 'dead_letter', finished_at = 1")
    assert len(clients[1].get("/runs", params={"project_id": "shop"}).json()) == 2
    page = parse_html(browsers[0].get("/dead-letters/replay").text)
    (place,) = {answer.headers["Location"] for answer in at_once(browsers, lambda browser, _: send(browser, page))}
    [replay] = clients[1].get("/replays", params={"project_id": "shop"}).json()
    assert (place.rpartition("/")[2], replay["total"]) == (replay["id"], 2)
    assert "Running: 0 of 2" in browsers[1].get(place).text
    other = create(clients[0], "other")
    page = parse_html(browsers[0].get(f"/definitions/{other}/trigger").text)
    foreign = send(browsers[1], page, payload="{}", token=runs[0])
    assert (foreign.status_code, "another job" in foreign.text) == (400, True)


def test_a_database_of_each_earlier_version_is_migrated(new_postgresql: str) -> None:
    """A team that updates its servers could not start them any more, or would miss its schedules and limits."""
    engine = open_database(new_postgresql, TABLES, SCHEMA)
    with engine.connect() as connection, connection.begin():
        fill(connection)
        assert_each_revision_is_upgraded(connection)
    engine.dispose()


def test_no_cycle_is_made_by_two_halves(clients: list[httpx.Client], new_postgresql: str) -> None:
    """Jobs that wait for each other would never run again."""
    a, b = (create(clients[0], slug) for slug in "ab")
    half = "INSERT INTO sluice_jobs.dependency VALUES ('x', %s, %s, 'any', 1)"
    with ThreadPoolExecutor(1) as pool, psycopg.connect(new_postgresql) as other:
        other.execute(half, (b, a))  # another server is about to make the other half
        answer = pool.submit(clients[0].post, f"/jobs/{a}/dependencies", json={"depends_on_job_id": b})
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: answer.done() or other.execute(waiting).fetchone() != (0,), 30, "it did not wait")
        other.commit()
        assert answer.result().status_code == 400


def test_a_job_is_not_deleted_under_a_run(clients: list[httpx.Client]) -> None:
    """A run would be left whose job is gone, and nothing could execute it."""
    for number in range(6):
        job = create(clients[0], f"{number}")
        with ThreadPoolExecutor(2) as pool:
            made = pool.submit(clients[0].post, f"/jobs/{job}/trigger")
            deleted = pool.submit(clients[1].delete, f"/jobs/{job}")
        assert (made.result().status_code, deleted.result().status_code) in {(201, 409), (404, 204)}


def test_texts_that_a_database_can_not_store_are_refused(clients: list[httpx.Client]) -> None:
    """A character of a payload or a name would be answered as a failure of the server."""
    client = clients[0]
    job = create(client, "mail")
    payload = {"a\x00": "\x00\U0001f600", "dependency_key": "x\x00"}
    run = client.post(f"/jobs/{job}/trigger", json={"payload": payload}).json()
    assert client.get(f"/runs/{run['id']}").json()["payload"] == payload
    for name in ("tags", "metadata"):
        assert client.post(f"/jobs/{job}/trigger", json={name: {"x": "\x00"}}).status_code == 400
    nul = [("batch-disable", {"ids": ["\x00"]}), (f"{job}/dependencies", {"depends_on_job_id": "\x00"})]
    assert [client.post(f"/jobs/{path}", json=body).status_code for path, body in nul] == [400, 400]
    for path in ("/jobs/%00", "/runs/%00", f"/jobs/{job}/versions/%00", "/jobs?project_id=%00", "/jobs?slug=%00"):
        assert client.get(path).status_code == 400


def test_pages_of_runs_follow_each_other(clients: list[httpx.Client]) -> None:
    """A list on PostgreSQL would be in another order than its cursor."""
    job = create(clients[0], "mail", tags={"team": "shop"})
    bulk = clients[0].post(f"/jobs/{job}/trigger/bulk", json={"items": [{"payload": {"n": n}} for n in range(250)]})
    expected = [result["id"] for result in bulk.json()["results"]][::-1]
    for filters in ({}, {"status": "queued"}, {"tag_key": "team", "tag_value": "shop"}, {"job_id": job}):
        seen: list[str] = []
        cursor: dict[str, str] | None = {}
        while cursor is not None:
            page = clients[1].get("/runs", params={"project_id": "shop", "limit": "100", **filters, **cursor})
            seen += [run["id"] for run in page.json()]
            cursor = {"cursor": page.headers["X-Next-Cursor"]} if "X-Next-Cursor" in page.headers else None
        assert seen == expected


def test_attempts_start_and_finish(new_postgresql: str) -> None:
    """A server on PostgreSQL would answer workers with its failures."""
    attempts = Attempts(new_postgresql)
    job = attempts.job(max_attempts=4, version_policy="minor")
    run = attempts.trigger(job)
    attempts.update(job, timeout_secs=5, backwards_compatible=True)
    execution = attempts.begin(run)
    assert attempts.beat({execution: run, attempts.name(): run}) != [execution]
    assert attempts.finish(run, execution, **{**FAILURE, "error": "\x00"}) == "queued"
    execution = attempts.begin(run, 2)
    attempts.lose(run)
    assert attempts.finish(run, execution, 2, **FAILURE) == "queued"
    assert [circuit.failures for circuit in attempts.circuits()] == [2]
    execution = attempts.begin(run, 3)
    assert attempts.finish(run, execution, 3, status_code=200, result='{"a": "\x00"}') == "completed"
    assert attempts.circuits() == []
    check_requests_together(attempts)
    attempts.store.close()


def test_two_engines_make_each_firing_once(new_postgresql: str) -> None:
    """A nightly job would run twice where two servers take each other for gone."""
    engines = [Attempts(new_postgresql) for _ in "ab"]
    jobs = [
        engines[0].job(cron="* * * * *", rate_limit_keys=[{"name": "x", "max": 5, "window_secs": 9}]) for _ in "abc"
    ]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(10):
            for engine in engines:
                engine.pass_(60)
            list(pool.map(Attempts.fire, engines))
    for job in jobs:
        minutes = [row.fire_at for row in engines[1].runs(job)]
        assert len(minutes) == len(set(minutes)) == 10
        schedule = engines[0].schedule(job)
        assert (schedule.missed_count, schedule.last_fire_at) == (0, minutes[-1])
        engines[0].begin(engines[1].runs(job)[0].id)
    engines[0].pause(jobs[0])
    engines[0].resume(jobs[0])
    for engine in engines:
        engine.store.close()


def test_what_another_server_is_changing_is_passed(new_postgresql: str) -> None:
    """One transaction that takes long would hold the engine, and the signs of life of all workers."""
    attempts = Attempts(new_postgresql)
    job = attempts.job(timeout_secs=5)
    executions: dict[str, str] = {}

    def begun(run: str) -> None:
        executions[attempts.begin(run)] = run

    def held(run: str) -> None:
        attempts.begin(run)
        attempts.lose(run)

    soon = (attempts.now + timedelta(seconds=1)).isoformat()
    cases: list[tuple[dict[str, Any], Callable[[str], object], Callable[[Connection, int], object]]] = [
        ({"scheduled_at": soon}, str, moves.begin_due),
        ({"ttl_secs": 1}, str, moves.expire),
        ({}, str, lambda writer, now: claim_runs(writer, JobCache(), 99, now, 300)),
        ({}, attempts.claim, release_all),
        ({}, held, moves.end_holds),
        ({}, begun, lambda writer, now: note_beat(writer, executions, now)),
        ({}, begun, lambda writer, now: moves.lose(writer, now, now, lambda: 0.5)),
        ({}, begun, lambda writer, now: moves.end_overdue(writer, now, now)),
    ]
    for item, prepare, work in cases:
        locked, free = attempts.trigger(job, **item), attempts.trigger(job, **item)
        prepare(locked)
        prepare(free)
        attempts.pass_(10)
        before = attempts.row(locked), attempts.row(free)
        with psycopg.connect(new_postgresql) as other:
            other.execute("SELECT 1 FROM sluice_jobs.run WHERE id = %s FOR UPDATE", (locked,))
            with attempts.store.writing() as writer:
                writer.execute(text("SET LOCAL lock_timeout = '1s'"))
                work(writer, attempts.store.moment)
        after = attempts.row(locked), attempts.row(free)
        assert (after[0] == before[0], after[1] == before[1]) == (True, False), work
    attempts.store.close()


def test_named_limits_hold(new_postgresql: str) -> None:
    """A limit would be counted by a query that only SQLite understands, or no run would start under one of a month,
    whose microseconds are too many for an integer."""
    attempts = Attempts(new_postgresql)
    job = attempts.job(rate_limit_keys=[{"name": "mail", "max": 2, "window_secs": 2_592_000}])
    runs = [attempts.trigger(job) for _ in range(4)]
    with attempts.store.writing() as writer:
        assert len(claim_runs(writer, JobCache(), 9, attempts.store.moment, 300)) == 2
        release_all(writer, attempts.store.moment)
    for run in runs[:2]:
        attempts.begin(run)
    with attempts.store.writing() as writer:
        assert limit_without_room(writer, attempts.read_job(job.id), attempts.store.moment) == "mail"
        assert claim_runs(writer, JobCache(), 9, attempts.store.moment, 300) == []
    attempts.update(job, rate_limit_keys=[])
    attempts.store.close()


def test_two_servers_send_each_webhook_once(new_postgresql: str) -> None:
    """A receiver would get everything twice behind a balancer; or nothing, as the database is another one."""
    receiver, engine = WebhookReceiver(), EngineOptions(lease=2.0)
    with (
        local_sluice(new_postgresql, has_jobs=True, engine=engine) as first,
        local_sluice(new_postgresql, has_jobs=True, engine=engine) as second,
    ):
        clients = [first.client(path="/v1"), second.client(path="/v1")]
        job = create(clients[0], "mail", webhook_url=receiver.hook, webhook_secret=SECRET)
        items = [{"payload": {"n": number}, "scheduled_at": _in_an_hour()} for number in range(AT_ONCE)]
        made = clients[0].post(f"/jobs/{job}/trigger/bulk", json={"items": items}).json()["results"]
        at_once(clients, lambda client, number: client.delete(f"/runs/{made[number]['id']}"))
        found = {"project_id": "shop", "state": "delivered"}

        def delivered() -> list[Any]:
            answer: list[Any] = clients[1].get("/webhook-deliveries", params=found).json()
            return answer if len(answer) == AT_ONCE else []

        deliveries = wait_until(delivered, 20, "webhooks are not sent", lambda: len(receiver.requests))
        assert sorted(receiver.ids()) == sorted(delivery["id"] for delivery in deliveries)
        assert all(map(is_signed, receiver.requests))
        health = clients[1].get(f"/jobs/{job}/health").json()
        assert (health["canceled_runs"], health["health_score"]) == (AT_ONCE, 0)
        again = clients[0].post(f"/webhook-deliveries/{deliveries[0]['id']}/resend").json()
        wait_until(lambda: len(receiver.requests) == AT_ONCE + 1, 20, "it is not sent again")
        assert receiver.ids()[-1] == again["id"] == deliveries[0]["id"]
    receiver.down()


def test_an_endpoint_reports_and_ends_its_run(new_postgresql: str) -> None:
    """What endpoints report would be lost on the other database."""
    attempts = Attempts(new_postgresql, datetime.now(timezone.utc))
    with local_sluice(new_postgresql, has_jobs=True) as server:
        run = attempts.trigger(attempts.job())
        spec = attempts.start(run, attempts.claim(run), attempts.name())
        assert spec is not None
        client = server.client({"Authorization": f"Bearer {spec.headers['X-Run-Token']}"}, f"/sdk/v1/runs/{run}")
        reader = server.client(path="/v1")
        bodies = {
            "heartbeat": {}, "progress": {"percent": 5}, "log": {"message": "m", "data": ["\u0000"]},
            "annotate": {"annotations": {"k": "v"}}, "continue": {"payload": {"page": 2}},
            "complete": {"result": "\u0000"},
        }  # fmt: skip
        answers = [client.post(f"/{name}", json=body) for name, body in bodies.items()]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 201, 200], answers[-1].text
        shown = reader.get(f"/runs/{run}").json()
        assert (shown["status"], shown["result"], shown["metadata"]) == ("completed", "\u0000", {"k": "v"})
        assert shown["progress"]["percent"] == 5
        assert [row["data"] for row in reader.get(f"/runs/{run}/log").json()] == [["\u0000"]]
        [attempt] = reader.get(f"/runs/{run}/attempts").json()
        assert attempt["finished_at"]
    attempts.store.close()


def _in_an_hour() -> str:
    return (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
