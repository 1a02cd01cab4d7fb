"""Reports of the jobs of a worker that is shut down, killed or not alone. Each test has separate workers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import kombu
import pytest

from tests.integration.outcomes.running_job import BEGUN, RunningJob, runs_of, walk_of
from tests.integration.outcomes.send import version
from tests.integration.outcomes.table import GEVENT, POOLS, PREFORK, SOLO
from tests.integration.outcomes.table_run import walk_of_events
from tests.integration.outcomes.workers import (
    ENDED,
    ENDINGS_OF_WORKERS,
    Ending,
    cold,
    faults,
    killed_and_again,
    soft,
    warm,
)
from tests.support.brokers import BROKERS, rabbitmq_broker, redis_broker
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.servers import RabbitMQServer, RedisServer, Server
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

StartWorker = Callable[..., WorkerProcess]
MakeProducer = Callable[..., Producer]

IS_FULL = os.environ.get("MATRIX") == "full"
USUAL = [("redis", PREFORK), ("redis", GEVENT), ("rabbitmq", PREFORK)]
FULL = [
    *(("redis", pool) for pool in POOLS),
    *((broker, PREFORK) for broker in BROKERS if broker != "redis"),
    ("rabbitmq", SOLO),
]
CASES = [
    pytest.param(row, broker, pool, id=f"{broker}-{pool}-{row.name}")
    for broker, pool in (FULL if IS_FULL else USUAL)
    for row in ENDINGS_OF_WORKERS
    if row.walk(pool, version(), broker) is not None and (version() >= (5, 5) or "quorum" not in broker)
]


@pytest.mark.parametrize(("row", "broker", "pool"), CASES)
def test_end_of_a_worker(
    start_worker: StartWorker,
    producer: MakeProducer,
    tmp_path: Path,
    endpoint: Endpoint,
    row: Ending,
    broker: str,
    pool: str,
) -> None:
    """A user who deploys, scales down or runs out of memory must see the outcome of the jobs that ran meanwhile."""
    worker = start_worker(broker=broker, pool=pool, concurrency=1, conf=row.conf)
    job = RunningJob(producer(broker), tmp_path, endpoint, row.task)
    row.drive(worker, job)
    expected = row.walk(pool, version(), broker)
    is_reported = lambda: walk_of_events(endpoint.jobs()[job.id]) == expected  # noqa: E731 - short
    wait_until(is_reported, 30, f"{row.name}: {expected}", lambda: f"{job.walk()}\n{worker.tail()}")
    assert faults(row, endpoint.jobs()[job.id], worker) == []
    if row.drive in (warm, soft, cold) and not worker.running:  # a solo worker may outlive its cold shutdown
        reports = endpoint.workers()[worker.hostname]
        assert reports[-1]["worker"]["state"] == "offline"
    if row.drive is not killed_and_again:  # its last batch may be sent again: the answer was not recorded
        assert endpoint.duplicates == []


@pytest.mark.skipif(kombu.VERSION[:2] < (5, 7), reason="older kombu checks every 100 s")
def test_redelivery_after_the_visibility_timeout(
    start_worker: StartWorker, producer: MakeProducer, endpoint: Endpoint
) -> None:
    """A user must see each run of a job that Redis delivers again, as it was held beyond the visibility timeout."""
    quick = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    conf = {"broker_transport_options": {"visibility_timeout": 1, **quick}}
    worker = start_worker(conf=conf, concurrency=1)
    task_id = producer(conf=conf).run("from tests.integration.tasks import noop; print(noop.apply_async(countdown=5))")
    wait_until(lambda: walk_of(endpoint, task_id).count("completed") > 1, 40, "it ran once", worker.tail)
    assert walk_of(endpoint, task_id).split()[0] == "scheduled"
    assert runs_of(endpoint, task_id) > 1
    assert endpoint.duplicates == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("broker", "walks"),
    [
        ("redis", {"hold": ENDED}),
        ("redis, results as well", {"hold": ENDED if version() < (5, 6) else f"{ENDED} failed"}),  # the result is lost
        # The second one's acknowledgement was not possible. A RabbitMQ that starts costs more than a worker.
        ("rabbitmq", {"hold": ENDED, "hold_late": f"{ENDED} active completed"}),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_broker_restarted(
    start_worker: StartWorker,
    producer: MakeProducer,
    endpoint: Endpoint,
    tmp_path: Path,
    redis_server: RedisServer,
    broker: str,
    walks: dict[str, str],
) -> None:
    """Otherwise a broker restart would leave a hole in the history of the jobs that run meanwhile."""
    if broker == "rabbitmq":
        server: Server = (rabbitmq := RabbitMQServer(tmp_path / "own"))
        location = rabbitmq_broker(rabbitmq, redis_server)
    else:
        server = (redis := RedisServer(tmp_path / "own"))
        location = redis_broker(redis)
        if broker == "redis":
            location = replace(location, backend=redis_broker(redis_server).backend)
    try:
        worker = start_worker(broker=location, concurrency=len(walks))
        sender = producer(location)
        jobs = []
        for task in walks:
            (tmp_path / task).mkdir()
            jobs.append(RunningJob(sender, tmp_path / task, endpoint, task))
        server.stop()
        wait_until(lambda: "Connection to broker lost" in worker.logs(), 20, "the worker did not notice", worker.tail)
        for job in jobs:
            job.release()
        for job in jobs:
            job.wait_for_walk(ENDED, "not reported while the broker is down", worker.tail)
        server.start()
        after = sender.send("add", 1, 2)
        wait_until(lambda: walk_of(endpoint, after) == ENDED, 60, "not reported", worker.tail)
        for job, walk in zip(jobs, walks.values(), strict=True):
            job.wait_for_walk(walk, context=worker.tail)
            assert runs_of(endpoint, job.id) == walk.split().count("active")
        assert endpoint.duplicates == []
    finally:
        server.close()


@pytest.mark.parametrize("broker", BROKERS if IS_FULL else ["redis", "rabbitmq"])
def test_expired_without_a_worker(
    start_worker: StartWorker, producer: MakeProducer, endpoint: Endpoint, broker: str
) -> None:
    """A job that no worker received in time will never run, and must be seen; RabbitMQ drops it without a report."""
    if "quorum" in broker and version() < (5, 5):
        pytest.skip("quorum queues are new in Celery 5.5")
    sender = producer(broker)
    expired = sender.run("from tests.integration.tasks import noop; print(noop.apply_async(expires=0.5))")
    published_at = time.monotonic()
    wait_until(lambda: time.monotonic() > published_at + 0.6, 5, "the clock stands still")
    start_worker(broker=broker, concurrency=1)
    after = sender.send("add", 1, 2)
    wait_until(lambda: walk_of(endpoint, after) == ENDED, 30, "the worker consumes nothing")
    walk = "queued" if broker.startswith("rabbitmq") else "queued cancelled"
    wait_until(lambda: walk_of(endpoint, expired) == walk, 10, walk, lambda: walk_of(endpoint, expired))


@pytest.mark.parametrize("directory", ["one", "two"])
def test_two_workers(
    start_worker: StartWorker, producer: MakeProducer, endpoint: Endpoint, tmp_path: Path, directory: str
) -> None:
    """Workers on one host, with one or two state directories, must report each job once, under the right name."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    envs = ({}, {"SLUICE_STATE_DIR": str(other)} if directory == "two" else {})
    one_by_one = {"worker_prefetch_multiplier": 1}
    workers = [start_worker(concurrency=1, env=env, conf=one_by_one) for env in envs]
    sender = producer()
    jobs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        jobs.append(RunningJob(sender, tmp_path / name, endpoint, "hold_late"))
    for job in jobs:
        job.release()
        job.wait_for_walk(ENDED)
    ran = {endpoint.jobs()[job.id][-1]["job"]["workerId"] for job in jobs}
    assert ran == {worker.hostname for worker in workers}
    assert workers[0].terminate().code == 0
    last = sender.send("add", 1, 2)
    wait_until(lambda: walk_of(endpoint, last) == ENDED, 20, "the other worker reports nothing", workers[1].tail)
    assert endpoint.duplicates == []


def test_sys_exit_in_a_solo_worker(start_worker: StartWorker, producer: MakeProducer, endpoint: Endpoint) -> None:
    """It ends the worker, which announces no end of the job: the job must not stay active for ever."""
    worker = start_worker(pool=SOLO)
    task_id = producer().send("exit_with", 3)
    worker.process.wait(30)
    wait_until(lambda: walk_of(endpoint, task_id) == f"{BEGUN} failed", 10, "not reported", worker.tail)
    assert endpoint.jobs()[task_id][-1]["job"]["error"] == "SystemExit: 3"
