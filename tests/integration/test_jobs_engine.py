"""Runs are executed as a user has them: triggered over HTTP, carried by a broker, executed by Celery's workers.

The tests of a broker share a server and a worker.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import redis

from sluice_agent.doctor.findings import Finding
from sluice_agent.doctor.jobs_queue import check_jobs_queue
from sluice_agent.jobs.engine.options import EngineOptions
from sluice_agent.server.actions.assembly import ActionOptions
from sluice_agent.server.actions.brokers import Brokers
from sluice_agent.server.actions.celery_client import broker_at
from sluice_agent.settings import Settings
from tests.support.brokers import Broker, rabbitmq_broker, redis_broker
from tests.support.endpoint import running
from tests.support.ingest_server import Exchange, Request
from tests.support.local_sluice import LocalSluice, local_sluice
from tests.support.misbehaviour import hangs, status
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import SECRET, WebhookReceiver
from tests.support.worker import WorkerProcess

SLOTS = 4
HELD = {"queued", "dequeued", "executing"}


def engine_of(broker: Broker, queue: str, **options: Any) -> dict[str, Any]:
    """Return the arguments of a server whose runs go to `queue` of a broker."""
    actions = ActionOptions(Brokers(default=broker_at(broker.url)))
    return {"has_jobs": True, "engine": EngineOptions(queue=queue, **options), "actions": actions}


def make_job(client: httpx.Client, target: WebhookReceiver, slug: str, **fields: Any) -> str:
    answer = client.post(
        "/jobs", json={"project_id": "shop", "name": "Mail", "slug": slug, "endpoint_url": target.hook, **fields}
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def trigger(client: httpx.Client, job: str, **fields: Any) -> str:
    answer = client.post(f"/jobs/{job}/trigger", json=fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def read(client: httpx.Client, run: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/runs/{run}").json()
    return found


def wait_for_end(client: httpx.Client, runs: list[str], tail: Callable[[], str] = str) -> list[str]:
    """Return the states in which runs end."""
    found: dict[str, str] = {}

    def have_ended() -> bool:
        found.update((run, read(client, run)["status"]) for run in runs if found.get(run, "queued") in HELD)
        return not HELD.intersection(found.values())

    wait_until(have_ended, 60, "a run did not end", tail)
    return [found[run] for run in runs]


def messages_in(broker: Broker, queue: str) -> list[bytes]:
    """Return the messages that wait in a queue on Redis, of all priorities."""
    with redis.Redis.from_url(broker.url) as connection:
        keys = [key for key in connection.scan_iter(f"{queue}*") if connection.type(key) == b"list"]
        return [message for key in keys for message in connection.lrange(key, 0, -1)]


@dataclass
class Installed:
    """A server, a worker of its broker, and an endpoint.

    `first` is a run that was triggered before the worker was started, `held` and `doctor` what the server and the
    doctor showed of it then, and `messages` those on Redis that waited for the worker: each was there twice.
    """

    broker: Broker
    queue: str
    target: WebhookReceiver
    server: LocalSluice
    client: httpx.Client
    worker: WorkerProcess
    first: str
    held: dict[str, Any]
    settings: Settings
    doctor: list[Finding]
    messages: list[bytes]

    def requests(self, run: str) -> list[Request]:
        """Return the requests of a run, in their order."""
        return [request for request in list(self.target.requests) if request.headers["x-run-id"] == run]

    def waiting(self) -> list[bytes]:
        """Return the messages that wait in the queue on Redis."""
        return messages_in(self.broker, self.queue)

    def end(self, *runs: str) -> list[str]:
        """Wait until runs have ended, and return their states."""
        return wait_for_end(self.client, list(runs), self.worker.tail)


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.xdist_group(f"jobs engine {name}")) for name in ("redis", "rabbitmq")],
)
def installed(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installed]:
    """The same for Redis and RabbitMQ. The worker is the first to make the queue.

    The first run has ended: each test may script the endpoint for its own runs, whichever test is the first.
    """
    directory = tmp_path_factory.mktemp(request.param)
    is_redis = request.param == "redis"
    vhost = None if is_redis else request.getfixturevalue("rabbitmq_vhost")
    broker = redis_broker(redis_server) if vhost is None else rabbitmq_broker(vhost, redis_server)
    queue = f"jobs-{broker.queue}"
    messages: list[bytes] = []
    with (
        running(WebhookReceiver()) as target,
        local_sluice(directory / "s.db", **engine_of(broker, queue, look=0.2)) as server,
    ):
        client = server.client(path="/v1")
        job = make_job(client, target, "mail", retry_strategy="fixed", max_attempts=3)
        target.script(status(500), status(200, body='{"sent": 1}'))
        first = trigger(client, job, payload={"to": "a"}, priority=10)
        wait_until(lambda: "queue_without_workers" in read(client, first), 30, "the run does not say why it waits")
        held = read(client, first)
        url, connection_id = f"{server.url}/api", str(uuid.uuid4())
        settings = Settings(api_key="sk_test", api_url=url, connection_id=connection_id)
        doctor = list(check_jobs_queue(settings))
        assert target.requests == []
        if is_redis:
            messages = messages_in(broker, queue)
            with redis.Redis.from_url(broker.url) as connection:
                connection.lpush(queue, *messages)
        worker = WorkerProcess(
            directory,
            broker,
            pool="gevent" if is_redis else "threads",
            concurrency=SLOTS,
            args=["-I", "tests.support.quick_beats,sluice_agent.jobs.tasks", "-Q", queue],
            env={
                "SLUICE_API_URL": url,
                "SLUICE_API_KEY": "sk_test",
                "SLUICE_CONNECTION_ID": connection_id,
                "SLUICE_STATE_DIR": str(directory),
                "SLUICE_FLUSH_INTERVAL": "0.1",
            },
            loglevel="DEBUG",
            wait=False,
        )
        try:
            wait_for_end(client, [first], worker.tail)
            yield Installed(broker, queue, target, server, client, worker, first, held, settings, doctor, messages)
        finally:
            worker.teardown()


def test_a_run_waits_for_a_worker_and_says_so(installed: Installed) -> None:
    """A run without a worker would stay queued, and nobody know why; or it be lost, with its retries."""
    assert installed.queue in installed.held["queue_without_workers"]
    (finding,) = installed.doctor
    assert f"celery -A app worker -I sluice_agent.jobs.tasks -Q {installed.queue}" in finding.todo
    assert installed.end(installed.first) == ["completed"]
    run = read(installed.client, installed.first)
    assert run["result"] == {"sent": 1}
    assert "queue_without_workers" not in run
    assert list(check_jobs_queue(installed.settings)) == []
    assert [request.headers["x-attempt"] for request in installed.requests(installed.first)] == ["1", "2"]


def test_a_limit_holds_over_the_slots_of_workers(installed: Installed) -> None:
    """A job that may run once at a time would run twice, or its runs come in another order."""
    client = installed.client
    single = make_job(client, installed.target, "single", max_concurrency=1)
    runs = [trigger(client, single, payload={"n": number}) for number in range(5)]
    assert installed.end(*runs) == ["completed"] * 5
    of_runs = [request.headers["x-run-id"] for request in list(installed.target.requests)]
    assert [run for run in of_runs if run in runs] == runs


def test_a_cancel_ends_the_request_under_way(installed: Installed) -> None:
    """A user would wait for a request that nobody needs any more, and its worker's slot be held by it."""
    client, target = installed.client, installed.target
    job = make_job(client, target, "canceled", timeout_secs=3_600, max_attempts=5)
    target.script(*[hangs()] * SLOTS)
    runs = [trigger(client, job, payload={"n": number}) for number in range(SLOTS)]
    wait_until(lambda: all(map(installed.requests, runs)), 30, "no request came", installed.worker.tail)
    later = trigger(client, job, payload={"n": "later"})
    for run in runs:
        assert client.delete(f"/runs/{run}").json()["status"] == "canceled"
    app = installed.broker.app()
    for run in runs:
        result = app.AsyncResult(run)
        wait_until(lambda: result.state == "REVOKED", 30, "the request goes on", installed.worker.tail)  # noqa: B023
    assert installed.end(later) == ["completed"]
    assert [read(client, run)["status"] for run in runs] == ["canceled"] * SLOTS
    assert [len(installed.requests(run)) for run in runs] == [1] * SLOTS
    app.close()


def test_a_message_that_comes_again_sends_nothing(installed: Installed) -> None:
    """A broker delivers a message again when a visibility timeout has passed: an invoice would be sent twice."""
    if not installed.messages:
        pytest.skip("of RabbitMQ no message is read past its client")
    client, target = installed.client, installed.target
    job = make_job(client, target, "again")
    installed.worker.kill("STOP")
    try:
        taken, run = trigger(client, job), trigger(client, job)  # the worker has asked for one message already
        wait_until(lambda: run in str(installed.waiting()), 30, "no message was sent")
        with redis.Redis.from_url(installed.broker.url) as connection:
            (message,) = {text for text in installed.waiting() if run.encode() in text}
            connection.lpush(installed.queue, *installed.messages, message, message)
        target.standing(_answers_when_released)
    finally:
        installed.worker.kill("CONT")
    wait_until(lambda: installed.requests(run), 30, "no request came", installed.worker.tail)
    wait_until(lambda: not installed.waiting(), 30, "a message was not read", installed.worker.tail)
    target.standing()
    last = trigger(client, job)
    assert installed.end(last) == ["completed"]
    target.release()
    assert installed.end(taken, run) == ["completed"] * 2
    for number, ended in ((1, run), (1, taken), (2, installed.first)):
        assert len(installed.requests(ended)) == number


def _answers_when_released(exchange: Exchange) -> bool:
    exchange.wait_for_release()
    exchange.send(200, b"{}")
    return True


def test_no_secret_leaves_its_place(installed: Installed, caplog: pytest.LogCaptureFixture) -> None:
    """Who reads logs, lists, pages, or the broker would send requests in the name of the jobs API."""
    caplog.set_level(logging.DEBUG)
    client = installed.client
    job = make_job(client, installed.target, "secret", webhook_secret=SECRET, max_attempts=1)
    installed.target.script(status(500))
    body = client.post(f"/jobs/{job}/trigger", json={"payload": {"card": "4111-1111"}}).json()
    assert installed.end(body["id"]) == ["dead_letter"]
    (request,) = installed.requests(body["id"])
    headers = request.headers
    assert {"x-run-token", "webhook-signature", "x-strait-signature"} <= headers.keys()
    secrets = [SECRET, body["run_token"], headers["x-run-token"], headers["webhook-signature"], "4111-1111"]
    api = installed.server.client()
    event = wait_until(lambda: _ended(api, body["id"]), 30, "the agent has not reported it", installed.worker.tail)
    shown = [client.get(path).text for path in ("/jobs?project_id=shop", f"/jobs/{job}", f"/jobs/{job}/versions")]
    places = [*shown, event, caplog.text, installed.worker.logs(), *map(str, installed.messages)]
    run = client.get(f"/runs/{body['id']}").text
    for secret in secrets:
        assert not [place for place in places if secret in place], secret
        assert secret not in run or secret == "4111-1111", "the payload is shown with its run"


def _ended(api: httpx.Client, job: str) -> str:
    text = api.get(f"/jobs/{job}").text
    return text if '"failed"' in text else ""
