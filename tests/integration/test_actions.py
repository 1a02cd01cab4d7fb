"""Retry and revoke with real workers on both brokers: one worker and one server per broker for all rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import httpx
import pytest

from sluice_agent.server.access.principal import Role
from sluice_agent.server.access.setup import AccessOptions
from sluice_agent.server.actions.assembly import ActionOptions, brokers_of
from tests.support.brokers import Broker, rabbitmq_broker, redis_broker
from tests.support.html import Element, parse_html
from tests.support.local_sluice import LocalSluice
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

APP = "tests.integration.apps.retried"
SETUP = f"import json, os, sys\nfrom {APP} import *\nfrom {APP} import fail, fail_without_result, succeed\n"


class Cluster:
    """A broker, a worker with the agent, and a server that has both."""

    def __init__(self, directory: Path, broker: Broker) -> None:
        self.directory = directory
        self.broker = broker
        brokers = brokers_of([broker.url], [broker.backend], None, "shop")
        self.server = LocalSluice(
            directory / "sluice.db", options=AccessOptions(connection="shop"), actions=ActionOptions(brokers)
        )
        access = self.server.access
        assert access.connection is not None
        assert access.new_key is not None
        self.connection = access.connection.id
        self.ingest_key = access.new_key.secret
        operator = access.accounts.create_key(access.connection, Role.OPERATOR).secret
        self.api = self.server.client({"Authorization": f"Bearer {operator}"})
        self.pages = self.server.client(
            {"Authorization": f"Bearer {operator}", "Accept": "text/html", "Sec-Fetch-Site": "same-origin"}, ""
        )
        self.env = {
            "SLUICE_API_KEY": self.ingest_key,
            "SLUICE_CONNECTION_ID": self.connection,
            "SLUICE_API_URL": f"{self.server.url}/api",
            "SLUICE_STATE_DIR": str(directory / "state"),
            "SLUICE_FLUSH_INTERVAL": "0.1",
            "SLUICE_CAPTURE_ARGS": "1",
        }
        self.worker = WorkerProcess(directory, broker, app=APP, env=self.env, pool="prefork", concurrency=1)
        self.producer = Producer(directory, broker, env=self.env)

    def publish(self, code: str) -> list[str]:
        """Run code that prints the ids of the jobs that it publishes."""
        return self.producer.run(SETUP + code).split()

    def record(self, job: str) -> dict[str, Any]:
        """Return the record of a job; empty if the server does not have it yet."""
        response = self.api.get(f"/jobs/{job}")
        return dict(response.json()) if response.status_code == 200 else {}

    def wait_for(self, job: str, *states: str) -> dict[str, Any]:
        """Wait until a job is in one of these states, and return its record."""
        wait_until(lambda: self.record(job).get("state") in states, 20, f"{job} is not {states}", self.worker.tail)
        return self.record(job)

    def retry(self, job: str, **parameters: Any) -> httpx.Response:
        return self.api.post(f"/jobs/{job}/retry", params=parameters)

    def ask(self, **parameters: Any) -> Element:
        """Return the page that asks before these jobs are acted on."""
        response = self.pages.get("/actions/new", params={"connectionId": self.connection, **parameters})
        assert response.status_code == 200, response.text
        return parse_html(response.text).one("main")

    def confirm(self, question: Element) -> str:
        """Send the form of that page, and return the address to which the browser goes on."""
        fields = [(field["name"], field["value"]) for field in question.one("form").all("input", type="hidden")]
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.pages.post("/actions", content=urlencode(fields).encode(), headers=headers)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def page(self, path: str) -> Element:
        """Return the content of a page."""
        return parse_html(self.pages.get(path).text).one("main")

    def close(self) -> None:
        self.producer.close()
        self.worker.teardown()
        self.server.stop()
        self.server.join()


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster on each broker."""
    redis = request.getfixturevalue("redis_server")
    conf = {"result_extended": True}
    if request.param == "redis":
        broker = redis_broker(redis, conf=conf)
    else:
        broker = rabbitmq_broker(
            request.getfixturevalue("rabbitmq_vhost"), redis, conf={**conf, "task_queue_max_priority": 9}
        )
    cluster = Cluster(tmp_path_factory.mktemp("actions"), broker)
    yield cluster
    cluster.close()


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """The file in which tasks write down how they were called."""
    return tmp_path / "calls"


def read(calls: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []


def error_of(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def test_a_retry_is_a_new_run_of_the_same_call(cluster: Cluster, calls: Path) -> None:
    """A retry that loses an argument, a limit or the tenant does something else than the job that failed."""
    [job] = cluster.publish(
        f"print(fail.apply_async(({str(calls)!r}, 1, 'ä'), {{'b': [2.5, None]}}, priority=6, time_limit=50, "
        "soft_time_limit=40, ignore_result=True, headers={'tenant': 'a'}).id)"
    )
    before = cluster.wait_for(job, "failed")
    preview = cluster.retry(job, dryRun=True).json()
    assert (preview["name"], preview["args"], preview["kwargs"]) == (
        f"{APP}.fail",
        [str(calls), 1, "ä"],
        {"b": [2.5, None]},
    )
    assert len(read(calls)) == 1
    answer = cluster.retry(before["id"])
    assert answer.status_code == 200, answer.text
    new = answer.json()["retriedAs"]
    assert (answer.json()["id"], answer.json()["state"]) == (before["id"], "retrying")
    record = cluster.wait_for(new["externalId"], "failed")
    first, second = read(calls)
    assert (first.pop("id"), second.pop("id")) == (job, new["externalId"])
    assert first == second
    assert (second["timeLimit"], second["headers"], second["retries"]) == ([50, 40], "a", 0)
    assert (record["id"], record["attempt"], record["extensions"]["retryOf"]) == (new["id"], 1, job)
    assert [entry["state"] for entry in record["stateHistory"]] == ["queued", "active", "failed"]
    after = cluster.record(job)
    assert after["extensions"].pop("retriedAs") == new["externalId"]
    assert after["stateHistory"] == before["stateHistory"]
    assert cluster.retry(new["externalId"]).status_code == 200  # a retry can be retried


def test_arguments_that_are_not_whole_come_from_the_result_backend(cluster: Cluster, calls: Path) -> None:
    """A job with a password could not be retried; or be retried with the mark that hides it."""
    stored, lost = cluster.publish(
        f"for task in (fail, fail_without_result): print(task.delay({str(calls)!r}, password='hunter2').id)"
    )
    cluster.wait_for(stored, "failed")
    answer = cluster.retry(stored)
    assert answer.status_code == 200, answer.text
    record = cluster.wait_for(answer.json()["retriedAs"]["externalId"], "failed")
    wait_until(lambda: len(read(calls)) == 3, 20, "the tasks did not run")
    assert [call["kwargs"] for call in read(calls)] == [{"password": "hunter2"}] * 3
    assert "hunter2" not in json.dumps(record)
    cluster.wait_for(lost, "failed")
    status, message = error_of(cluster.retry(lost))
    assert status == 400
    assert "SLUICE_CAPTURE_ARGS" in message


def test_without_capture_a_retry_keeps_its_limits_or_is_refused(cluster: Cluster, calls: Path) -> None:
    """Whoever has a result backend with arguments, and captures none, would lose a limit or the tenant by a retry."""
    plain = Producer(cluster.directory, cluster.broker, env={**cluster.env, "SLUICE_CAPTURE_ARGS": "0"})
    limited, headed = plain.run(
        f"{SETUP}print(fail.apply_async(({str(calls)!r}, (1, 2)), time_limit=50).id)\n"
        f"print(fail.apply_async(({str(calls)!r},), headers={{'tenant': 'a'}}).id)"
    ).split()
    cluster.wait_for(limited, "failed")
    answer = cluster.retry(limited)
    assert answer.status_code == 200, answer.text
    cluster.wait_for(answer.json()["retriedAs"]["externalId"], "failed")
    cluster.wait_for(headed, "failed")
    status, message = error_of(cluster.retry(headed))
    assert (status, "SLUICE_CAPTURE_ARGS" in message) == (400, True)
    limits = [call["timeLimit"] for call in read(calls) if call["args"] == [[1, 2]]]
    assert limits == [[50, None], [50, None]]


def test_a_member_of_a_chain_is_retried_alone(cluster: Cluster, calls: Path) -> None:
    """An operator would wait for the rest of the chain."""
    path = str(calls)
    [job] = cluster.publish(
        f"result = (fail.si({path!r}) | succeed.si({path!r})).apply_async()\nprint(result.parent.id)"
    )
    cluster.wait_for(job, "failed")
    assert "chain" in cluster.retry(job).json()["message"]
    wait_until(lambda: len(read(calls)) == 2, 20, "the retry did not run")


def test_a_revoked_job_is_cancelled_by_its_worker(cluster: Cluster, calls: Path) -> None:
    """A job would be shown as cancelled, and run."""
    logs = cluster.worker.logs
    for countdown in (3, 12, 48):
        [job] = cluster.publish(f"print(succeed.apply_async(({str(calls)!r},), countdown={countdown}).id)")
        wait_until(lambda job=job: f"{job}] received" in logs(), 20, "the worker does not have it")
        before = cluster.wait_for(job, "scheduled", "completed")
        answer = cluster.api.post(f"/jobs/{before['id']}/revoke")
        wait_until(lambda job=job: read(calls) or (f"{job}]" in logs().partition("Discarding revoked task")[2]), 60)
        if not read(calls):
            break
        calls.unlink()  # on a busy machine it has run before it was revoked
    else:
        pytest.fail(f"revoked jobs run\n{cluster.worker.tail()}", pytrace=False)
    assert (answer.status_code, answer.json()["id"], answer.json()["state"]) == (200, before["id"], "cancelled")
    cluster.wait_for(job, "cancelled")
    assert read(calls) == []
    retried = cluster.retry(job)  # under an id that the workers do not drop
    cluster.wait_for(retried.json()["retriedAs"]["externalId"], "completed")
    assert len(read(calls)) == 1


def test_several_jobs_by_their_ids(cluster: Cluster, calls: Path) -> None:
    """One job in a wrong state would fail all others of the request, or nobody would see which."""
    failed, done = cluster.publish(f"for task in (fail, succeed): print(task.delay({str(calls)!r}).id)")
    cluster.wait_for(failed, "failed")
    cluster.wait_for(done, "completed")
    answer = cluster.api.post("/jobs/bulk/retry", json={"ids": [failed, done, str(uuid4())]})
    good, wrong, missing = answer.json()["results"]
    assert good == {"id": failed, "success": True, "state": "retrying"}
    assert (wrong["success"], wrong["error"].startswith("The job is completed")) == (False, True)
    assert (missing["success"], missing["error"]) == (False, "Job not found.")
    wait_until(lambda: len(read(calls)) == 3, 20, "the retry did not run")
    revoked = cluster.api.post("/jobs/bulk/revoke", json={"ids": [failed]}).json()["results"]
    assert "failed" in revoked[0]["error"]
    assert cluster.api.post("/jobs/bulk/retry", json={"ids": [failed] * 101}).status_code == 400
    assert cluster.api.post("/jobs/bulk/retry", json={}).status_code == 400


def test_all_jobs_that_a_filter_selects(cluster: Cluster, calls: Path) -> None:
    """Twelve hundred failed jobs would be retried one by one, by hand."""
    jobs = cluster.publish(f"for number in range(120): print(fail_without_result.delay({str(calls)!r}, number).id)")
    wanted = {"name": f"{APP}.fail_without_result", "from": cluster.wait_for(jobs[0], "failed")["createdAt"]}
    wait_until(lambda: len(read(calls)) == 120, 60, "the jobs did not run", cluster.worker.tail)
    cluster.wait_for(jobs[-1], "failed")
    preview = cluster.api.post("/jobs/bulk/retry", params={"dryRun": True}, json={"filter": wanted}).json()
    assert (preview["total"], preview["jobs"][0]["args"]) == (120, [str(calls), 0])
    begun = cluster.api.post("/jobs/bulk/retry", json={"filter": wanted})
    assert begun.status_code == 202, begun.text
    path = f"/bulk-actions/{begun.json()['id']}"
    wait_until(lambda: cluster.api.get(path).json()["state"] == "completed", 60, "the action does not end")
    progress = cluster.api.get(path).json()
    assert (progress["total"], progress["succeeded"], progress["errors"]) == (120, 120, [])
    wait_until(lambda: len(read(calls)) == 240, 60, "the retries did not run", cluster.worker.tail)
    assert set(Counter(call["args"][0] for call in read(calls)).values()) == {2}
    assert error_of(cluster.api.post(f"{path}/cancel"))[0] == 400


def test_a_retry_from_a_page_is_a_new_run_of_the_same_call(cluster: Cluster, calls: Path) -> None:
    """The page would show other arguments than those that are sent, or the run would replace the one that failed."""
    [job] = cluster.publish(f"print(fail.apply_async(({str(calls)!r}, 1, 'ä'), {{'b': None}}, time_limit=50).id)")
    before = cluster.wait_for(job, "failed")
    question = cluster.ask(kind="retry", job=before["id"])
    assert question.one("pre").text == f'("{calls}", 1, "ä", b=null)'
    new_id = cluster.confirm(question).removeprefix("/jobs/")
    new = cluster.wait_for(new_id, "failed")
    first, second = read(calls)
    assert (first.pop("id"), second.pop("id")) == (job, new["externalId"])
    assert first == second
    assert (new["extensions"]["retryOf"], new["attempt"]) == (job, 1)
    after = cluster.record(job)
    assert (after["id"], after["stateHistory"]) == (before["id"], before["stateHistory"])
    assert f"/jobs/{new_id}" in [link["href"] for link in cluster.page(f"/jobs/{before['id']}").all("a")]


def test_a_page_refuses_redacted_arguments_and_wrong_states(cluster: Cluster, calls: Path) -> None:
    """A click would run a task with the mark that hides a password, or a job that has completed once more."""
    redacted, done = cluster.publish(
        f"print(fail_without_result.delay({str(calls)!r}, password='hunter2').id)\n"
        f"print(succeed.delay({str(calls)!r}).id)"
    )
    for job, state, kind, part in (
        (redacted, "failed", "retry", "SLUICE_CAPTURE_ARGS"),
        (redacted, "failed", "revoke", "The job is failed"),
        (done, "completed", "retry", "The job is completed"),
        (done, "completed", "revoke", "The job is completed"),
    ):
        question = cluster.ask(kind=kind, job=cluster.wait_for(job, state)["id"])
        assert part in question.text
        assert question.one("form").all("button") == []
        assert part in cluster.page(cluster.confirm(question)).one("tbody").text
    assert len(read(calls)) == 2


def test_a_job_is_revoked_from_its_page(cluster: Cluster, calls: Path) -> None:
    """The page would say that a job is revoked, and the job would run."""
    [job] = cluster.publish(f"print(succeed.apply_async(({str(calls)!r},), countdown=12).id)")
    before = cluster.wait_for(job, "scheduled")
    wait_until(lambda: f"{job}] received" in cluster.worker.logs(), 20, "the worker does not have it")
    assert cluster.confirm(cluster.ask(kind="revoke", job=before["id"])) == f"/jobs/{before['id']}"
    cluster.wait_for(job, "cancelled")
    assert read(calls) == []


def test_all_jobs_that_a_list_shows_are_retried_from_it(cluster: Cluster, calls: Path) -> None:
    """Twelve hundred failed jobs would be retried page by page."""
    jobs = cluster.publish(f"for number in range(120): print(fail_without_result.delay({str(calls)!r}, number).id)")
    wait_until(lambda: len(read(calls)) == 120, 60, "the jobs did not run", cluster.worker.tail)
    start = cluster.wait_for(jobs[0], "failed")["createdAt"]
    wanted = {"name": f"{APP}.fail_without_result", "from": start, "state": "failed"}
    wait_until(lambda: "Retry 120 failed" in cluster.ask(kind="retry", **wanted).one("h1").text, 20, "some are missing")
    listed = parse_html(cluster.pages.get("/jobs", params=wanted).text).one("main")
    [link] = [link["href"] for link in listed.all("a") if link.text == "Retry all 120"]
    place = cluster.confirm(parse_html(cluster.pages.get(link).text).one("main"))
    wait_until(lambda: "Done" in cluster.page(place).text, 60, "the action does not end")
    facts = {pair.one("dt").text: pair.one("dd").text for pair in cluster.page(place).one("dl").all("div")}
    assert facts["Sent again"] == "120"
    wait_until(lambda: len(read(calls)) == 240, 60, "the retries did not run", cluster.worker.tail)
    assert set(Counter(call["args"][0] for call in read(calls)).values()) == {2}


def test_an_ingest_key_never_becomes_an_execution(cluster: Cluster, calls: Path) -> None:
    """Whoever may send events could run any task of the workers, with arguments of his choice."""
    forged = [
        {
            "type": "job_state_change",
            "timestamp": "2026-02-27T10:00:00Z",
            "framework": "celery",
            "connectionId": cluster.connection,
            "job": {
                "externalId": str(uuid4()),
                "name": name,
                "queue": cluster.broker.queue,
                "state": "failed",
                "extensions": {"args": [], "kwargs": {}, "argsWhole": True, "message": {"serializer": "json"}},
            },
        }
        for name in ("os.system", "celery.backend_cleanup", "sluice.jobs.run")
    ]
    key = {"Authorization": f"Bearer {cluster.ingest_key}"}
    assert cluster.api.post("/ingest", json={"events": forged}, headers=key).json()["accepted"] == 3
    for event in forged:
        assert error_of(cluster.retry(event["job"]["externalId"]))[0] == 403
    [job] = cluster.publish(f"print(fail.delay({str(calls)!r}).id)")
    cluster.wait_for(job, "failed")
    assert cluster.api.post(f"/jobs/{job}/retry", headers=key).status_code in (401, 403)
    with httpx.Client(base_url=f"{cluster.server.url}/api") as nobody:
        assert nobody.post(f"/jobs/{job}/retry").status_code == 401
        assert nobody.post("/jobs/bulk/retry", json={"filter": {}}).status_code == 401
    assert len(read(calls)) == 1


@pytest.mark.parametrize(
    ("queue", "headers", "part"),
    [
        ("nowhere", {}, "has no queue nowhere"),
        ("ä" * 200, {}, "no queue of that name"),
        (None, {"n": 2**70}, "can't be encoded"),
    ],
)
def test_a_message_that_rabbitmq_does_not_take_is_refused(
    cluster: Cluster, calls: Path, queue: str | None, headers: dict[str, Any], part: str
) -> None:
    """RabbitMQ drops a message without a queue: the job would wait for ever."""
    if cluster.broker.name == "redis":
        pytest.skip("Redis makes a queue of any name, and takes any header")
    message = {"serializer": "json", "headers": headers, "headersWhole": True}
    job = str(uuid4())
    event = {
        "type": "job_state_change", "timestamp": "2026-02-27T10:00:00Z", "framework": "celery",
        "connectionId": cluster.connection,
        "job": {
            "externalId": job, "name": f"{APP}.succeed", "queue": queue or cluster.broker.queue, "state": "failed",
            "extensions": {"args": [str(calls)], "kwargs": {}, "argsWhole": True, "message": message},
        },
    }  # fmt: skip
    key = {"Authorization": f"Bearer {cluster.ingest_key}"}
    cluster.api.post("/ingest", json={"events": [event]}, headers=key)
    status, text = error_of(cluster.retry(job))
    assert status == 400
    assert part in text
