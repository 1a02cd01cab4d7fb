"""Workers execute attempts of the jobs API. `JobsServer` of the tests plays the server's internal routes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery

from tests.support.brokers import Broker
from tests.support.endpoint import running
from tests.support.jobs_server import QUEUE, JobsServer
from tests.support.misbehaviour import Behaviour, drips, hangs, status
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import WebhookReceiver
from tests.support.worker import WorkerProcess

ARGS = ["-I", "sluice_agent.jobs.tasks", "-Q", QUEUE]
POOLS = ["threads", "gevent", "prefork"]
StartWorker = Callable[..., WorkerProcess]


@pytest.fixture
def endpoint() -> Iterator[JobsServer]:
    """The server of the jobs API, which is the agent's as well."""
    with running(JobsServer()) as server:
        yield server


@pytest.fixture
def target() -> Iterator[WebhookReceiver]:
    """The endpoint of the jobs."""
    with running(WebhookReceiver()) as receiver:
        yield receiver


@pytest.fixture
def app(brokers: Callable[[str], Broker]) -> Celery:
    """A Celery app that publishes as the engine does, without an agent."""
    app = Celery("engine", set_as_current=False)
    app.conf.update(brokers("redis").settings())
    return app


def new_run(server: JobsServer, target: WebhookReceiver, **fields: object) -> str:
    run_id = str(uuid.uuid4())
    server.add(run_id, target.hook, **fields)
    return run_id


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("behaviour", "fields", "states"),
    [
        (status(200, body='{"paid": true}'), {}, ["active", "completed"]),
        (status(500), {}, ["active", "retrying"]),
        (status(500), {"max_attempts": 1}, ["active", "failed"]),
        (status(404), {}, ["active", "retrying"]),  # the double repeats every error
        (hangs(), {"max_attempts": 1, "timeout_secs": 1}, ["active", "failed"]),
    ],
    ids=["completed", "retried", "failed", "refused", "timed out"],
)
def test_a_task_ends_as_its_attempt(
    endpoint: JobsServer,
    target: WebhookReceiver,
    app: Celery,
    start_worker: StartWorker,
    pool: str,
    behaviour: Behaviour,
    fields: dict[str, object],
    states: list[str],
) -> None:
    """The pages would show another end than the run has."""
    target.script(behaviour)
    run_id = new_run(endpoint, target, **fields)
    worker = start_worker(pool=pool, args=ARGS)
    endpoint.publish(app, run_id)
    wait_until(lambda: endpoint.states(run_id) == states, 30, "the attempt did not end", worker.tail)
    assert (run_id, 1) in endpoint.outcomes
    assert len(target.requests) == 1
    assert endpoint.jobs()[run_id][0]["job"]["name"] == "invoices"


@pytest.mark.parametrize("pool", POOLS)
def test_a_message_that_comes_twice_sends_one_request(
    endpoint: JobsServer, target: WebhookReceiver, app: Celery, start_worker: StartWorker, pool: str
) -> None:
    """An invoice would be sent twice; or the second message show another end of the job."""
    run_id, last = new_run(endpoint, target), new_run(endpoint, target)
    worker = start_worker(pool=pool, args=ARGS, concurrency=1)
    for published in (run_id, run_id, run_id, last):
        endpoint.publish(app, published)
    wait_until(lambda: endpoint.states(last) == ["active", "completed"], 30, "the runs did not end", worker.tail)
    wait_until(lambda: endpoint.calls["start"] == 4, 10, "a message was not read", worker.tail)
    assert len(target.requests) == 2
    assert endpoint.states(run_id) == ["active", "completed"]


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_an_outcome_waits_for_a_server_that_is_away(
    endpoint: JobsServer, target: WebhookReceiver, app: Celery, start_worker: StartWorker, state_dir: Path, pool: str
) -> None:
    """A request that has succeeded would be sent again, although its worker was killed meanwhile."""
    target.script(hangs())
    run_id = new_run(endpoint, target)
    worker = start_worker(pool=pool, args=ARGS, env={"SLUICE_ENABLED": "0"})
    endpoint.publish(app, run_id)
    wait_until(lambda: target.requests, 30, "no request came", worker.tail)
    endpoint.is_away = True
    target.release()  # resets the connection: the outcome is a transient error
    wait_until(lambda: endpoint.calls["finish"], 30, "no outcome was sent", worker.tail)
    worker.kill()
    endpoint.is_away = False
    assert endpoint.outcomes == {}
    assert len(list(state_dir.glob("outcomes-*/*.outcome"))) == 1
    other = start_worker(pool=pool, args=ARGS, env={"SLUICE_ENABLED": "0"})
    wait_until(lambda: (run_id, 1) in endpoint.outcomes, 30, "the outcome was not delivered", other.tail)
    wait_until(lambda: not list(state_dir.glob("outcomes-*/*.outcome")), 10, "the outcome stays", other.tail)
    assert len(target.requests) == 1


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_a_start_is_repeated_while_the_server_is_away(
    endpoint: JobsServer, target: WebhookReceiver, app: Celery, start_worker: StartWorker, pool: str
) -> None:
    """A server that is started again would lose all runs that it had just handed out."""
    endpoint.is_away = True
    run_id, late = new_run(endpoint, target), new_run(endpoint, target)
    worker = start_worker(pool=pool, args=ARGS)
    endpoint.publish(app, late, claim_seconds=0)
    endpoint.publish(app, run_id)
    wait_until(lambda: endpoint.calls["start"] >= 3, 30, "no start was tried again", worker.tail)
    endpoint.is_away = False
    wait_until(lambda: endpoint.states(run_id) == ["active", "completed"], 30, "the run did not end", worker.tail)
    assert endpoint.states(late) == [], "its claim has ended"
    assert len(target.requests) == 1


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_a_canceled_run_is_shown_as_cancelled(
    endpoint: JobsServer, target: WebhookReceiver, app: Celery, start_worker: StartWorker, pool: str
) -> None:
    """A user would wait for a request that nobody needs any more, and then see it as completed."""
    target.script(hangs())
    run_id = new_run(endpoint, target)
    worker = start_worker(pool=pool, args=ARGS)
    endpoint.publish(app, run_id)
    wait_until(lambda: target.requests, 30, "no request came", worker.tail)
    endpoint.canceled.add(run_id)
    wait_until(lambda: endpoint.states(run_id) == ["active", "cancelled"], 30, "it goes on", worker.tail)
    assert endpoint.outcomes == {}


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_shutdown_finishes_requests(
    endpoint: JobsServer, target: WebhookReceiver, app: Celery, start_worker: StartWorker, pool: str
) -> None:
    """Each deployment would break off the requests under way."""
    target.script(drips(0.02))
    run_id = new_run(endpoint, target)
    worker = start_worker(pool=pool, args=ARGS)
    endpoint.publish(app, run_id)
    wait_until(lambda: target.requests, 30, "no request came", worker.tail)
    assert worker.terminate().code == 0
    assert endpoint.outcomes[run_id, 1]["error_class"] is None


@pytest.mark.parametrize("pool", ["gevent", "prefork"])
def test_limits_of_the_apps_tasks_end_no_attempt(
    endpoint: JobsServer, target: WebhookReceiver, app: Celery, start_worker: StartWorker, pool: str
) -> None:
    """A job with timeout_secs 600 would be killed after the minute that is enough for the app's own tasks."""
    target.script(drips(0.05))
    run_id = new_run(endpoint, target)
    worker = start_worker(pool=pool, args=ARGS, conf={"task_time_limit": 1, "task_soft_time_limit": 1})
    endpoint.publish(app, run_id)
    wait_until(lambda: (run_id, 1) in endpoint.outcomes, 30, "the attempt did not end", worker.tail)
    assert endpoint.outcomes[run_id, 1]["error_class"] is None


def test_a_worker_without_a_key_does_not_start(
    endpoint: JobsServer, start_worker: StartWorker, brokers: Callable[[str], Broker]
) -> None:
    """It would take messages that it can't execute, from workers that can."""
    env = {"SLUICE_API_KEY": "", "SLUICE_API_URL": "https://jobs.example.com/api"}
    with pytest.raises(pytest.fail.Exception, match="a worker of jobs needs a key for SLUICE_API_URL"):
        start_worker(pool="threads", args=ARGS, env=env)


@pytest.mark.parametrize("pool", ["threads", "gevent"])
def test_a_cold_shutdown_reports_requests_as_lost(
    endpoint: JobsServer, target: WebhookReceiver, app: Celery, start_worker: StartWorker, pool: str
) -> None:
    """A run would wait a minute and a half until it is tried again."""
    target.script(hangs())
    run_id = new_run(endpoint, target, timeout_secs=300)
    worker = start_worker(pool=pool, args=ARGS)
    endpoint.publish(app, run_id)
    wait_until(lambda: target.requests, 30, "no request came", worker.tail)
    worker.kill("SIGQUIT")
    wait_until(lambda: (run_id, 1) in endpoint.outcomes, 20, "the attempt is not reported", worker.tail)
    assert endpoint.outcomes[run_id, 1]["error_class"] == "transient"
