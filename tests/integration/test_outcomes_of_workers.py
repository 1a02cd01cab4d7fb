"""What is told of the jobs of a worker that is shut down, killed or not alone. Each test has workers of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import celery
import kombu
import pytest

from tests.integration.outcomes.stage import folded
from tests.integration.outcomes.table import EVENTLET, GEVENT, PREFORK, SOLO, THREADS
from tests.support.brokers import redis_broker
from tests.support.endpoint import Endpoint
from tests.support.producer import Producer
from tests.support.servers import RedisServer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

StartWorker = Callable[..., WorkerProcess]
MakeProducer = Callable[..., Producer]

VERSION = tuple(int(part) for part in celery.__version__.split(".")[:2])
ALL_POOLS = (PREFORK, THREADS, GEVENT, EVENTLET, SOLO)
POOLS = ALL_POOLS if os.environ.get("MATRIX") == "full" else (PREFORK, GEVENT)
BEGUN = "queued active"


class Held:
    """A job that is active until it is released."""

    def __init__(self, sender: Producer, folder: Path, endpoint: Endpoint, task: str = "hold") -> None:
        self._started, self._release = folder / "started", folder / "release"
        self._endpoint = endpoint
        self.id = sender.send(task, str(self._started), str(self._release))
        wait_until(self._started.exists, 20, f"{task} did not start")

    def release(self) -> None:
        """Let it end."""
        self._release.touch()

    def told(self, walk: str, message: str = "", context: Callable[[], object] | None = None) -> bool:
        """Wait until the job's walk is `walk`, and no other."""
        return wait_until(lambda: walk_of(self._endpoint, self.id) == walk, 30, message or walk, context or self.walk)

    def walk(self) -> str:
        """What was told so far."""
        return walk_of(self._endpoint, self.id)


def walk_of(endpoint: Endpoint, task_id: str) -> str:
    """A job's states; attempts are left out."""
    return " ".join(state for state, _ in folded(endpoint.jobs().get(task_id, [])))


@pytest.fixture
def held(
    start_worker: StartWorker, producer: MakeProducer, tmp_path: Path, endpoint: Endpoint
) -> Callable[..., tuple[WorkerProcess, Held]]:
    """A worker of one process or thread, in the middle of a job."""

    def begin(pool: str, task: str = "hold", broker: str = "redis", **options: object) -> tuple[WorkerProcess, Held]:
        worker = start_worker(broker=broker, pool=pool, concurrency=1, **options)
        return worker, Held(producer(broker), tmp_path, endpoint, task)

    return begin


@pytest.mark.parametrize("pool", POOLS)
def test_warm_shutdown(held: Callable[..., tuple[WorkerProcess, Held]], pool: str) -> None:
    """A deployment waits for the jobs that run; that they ended well must be known although the worker is gone."""
    worker, job = held(pool)
    worker.kill(signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in worker.logs(), 10, "no warm shutdown", worker.tail)
    job.release()
    assert worker.process.wait(30) == 0
    job.told(f"{BEGUN} completed")


@pytest.mark.skipif(VERSION < (5, 5), reason="Celery 5.5 has brought the soft shutdown")
def test_soft_shutdown(held: Callable[..., tuple[WorkerProcess, Held]]) -> None:
    """A job that ends in the time that a soft shutdown gives it has ended well."""
    worker, job = held(PREFORK, conf={"worker_soft_shutdown_timeout": 5})
    worker.kill(signal.SIGQUIT)
    wait_until(lambda: "Initiating Soft Shutdown" in worker.logs(), 10, "no soft shutdown", worker.tail)
    job.release()
    worker.process.wait(30)
    job.told(f"{BEGUN} completed")


@pytest.mark.skipif(VERSION < (5, 5), reason="before Celery 5.5 a cold shutdown says nothing of the jobs that it ends")
def test_cold_shutdown(held: Callable[..., tuple[WorkerProcess, Held]]) -> None:
    """A job that is acknowledged and cut off will never run again; it must not look as if it did."""
    worker, job = held(PREFORK)
    worker.kill(signal.SIGQUIT)
    worker.process.wait(30)
    job.told(f"{BEGUN} cancelled", context=worker.tail)


@pytest.mark.skipif(VERSION < (5, 5), reason="Celery 5.5 has brought the soft shutdown")
def test_soft_shutdown_that_takes_too_long(held: Callable[..., tuple[WorkerProcess, Held]]) -> None:
    """A job that does not end in the time that a soft shutdown gives it is cut off like any other."""
    worker, job = held(PREFORK, conf={"worker_soft_shutdown_timeout": 1})
    worker.kill(signal.SIGQUIT)
    worker.process.wait(30)
    job.told(f"{BEGUN} cancelled", context=worker.tail)


def test_cold_shutdown_with_acks_late(held: Callable[..., tuple[WorkerProcess, Held]], endpoint: Endpoint) -> None:
    """A job that goes back to its queue runs a second time, which must be seen. Only Celery 5.5 says that it went."""
    worker, job = held(PREFORK, "hold_late")
    worker.kill(signal.SIGQUIT)
    worker.process.wait(40)
    job.release()
    worker.start_again()
    returned = " queued" if VERSION == (5, 5) else ""
    job.told(f"{BEGUN}{returned} active completed", context=worker.tail)
    assert runs_of(endpoint, job.id) == 2


@pytest.mark.parametrize("broker", ["rabbitmq"])
def test_killed_worker(held: Callable[..., tuple[WorkerProcess, Held]], endpoint: Endpoint, broker: str) -> None:
    """What a killed worker was in the middle of runs again; both runs must be told, and none twice."""
    worker, job = held(PREFORK, "hold_late", broker)
    wait_until(lambda: job.walk() == BEGUN, 10, "not active")
    worker.kill()
    job.release()
    worker.start_again()
    job.told(f"{BEGUN} active completed", context=worker.tail)
    assert runs_of(endpoint, job.id) == 2
    assert endpoint.jobs()[job.id][-1]["job"]["extensions"]["redelivered"] is True


@pytest.mark.skipif(kombu.VERSION[:2] < (5, 7), reason="older kombu looks every 100 s")
def test_redelivery_after_the_visibility_timeout(
    start_worker: StartWorker, producer: MakeProducer, endpoint: Endpoint
) -> None:
    """Redis hands a job out again that is held for longer than its visibility timeout: Celery runs it as often."""
    quick = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}
    conf = {"broker_transport_options": {"visibility_timeout": 1, **quick}}
    worker = start_worker(conf=conf, concurrency=1)
    task_id = producer(conf=conf).run("from tests.integration.tasks import noop; print(noop.apply_async(countdown=5))")
    wait_until(lambda: walk_of(endpoint, task_id).count("completed") > 1, 40, "it ran once", worker.tail)
    assert walk_of(endpoint, task_id).split()[0] == "scheduled"
    assert runs_of(endpoint, task_id) > 1
    assert endpoint.duplicates == []


def test_broker_restarted(
    start_worker: StartWorker, producer: MakeProducer, endpoint: Endpoint, tmp_path: Path
) -> None:
    """While the broker is away, what happens to the jobs that run is told all the same; and when it is back, all is."""
    server = RedisServer(tmp_path / "redis")
    try:
        broker = redis_broker(server)
        worker = start_worker(broker=broker, concurrency=1)
        sender = producer(broker)
        job = Held(sender, tmp_path, endpoint)
        server.stop()
        wait_until(lambda: "Connection to broker lost" in worker.logs(), 20, "nobody noticed", worker.tail)
        job.release()
        server.start()
        job.told(f"{BEGUN} completed", context=worker.tail)
        after = sender.send("add", 1, 2)
        wait_until(lambda: walk_of(endpoint, after) == f"{BEGUN} completed", 30, "not told", worker.tail)
        assert endpoint.duplicates == []
    finally:
        server.close()


@pytest.mark.parametrize("folder", ["one", "two"])
def test_two_workers(
    start_worker: StartWorker, producer: MakeProducer, endpoint: Endpoint, tmp_path: Path, folder: str
) -> None:
    """Workers on one host, in one state folder or in two, tell each job once and under the name of who ran it."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    envs = ({}, {"SLUICE_STATE_DIR": str(other)} if folder == "two" else {})
    one_by_one = {"worker_prefetch_multiplier": 1}
    workers = [start_worker(concurrency=1, env=env, conf=one_by_one) for env in envs]
    sender = producer()
    held = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        held.append(Held(sender, tmp_path / name, endpoint, "hold_late"))
    for job in held:
        job.release()
        job.told(f"{BEGUN} completed")
    ran = {endpoint.jobs()[job.id][-1]["job"]["workerId"] for job in held}
    assert ran == {worker.hostname for worker in workers}
    assert workers[0].terminate().code == 0
    last = sender.send("add", 1, 2)
    wait_until(lambda: walk_of(endpoint, last) == f"{BEGUN} completed", 20, "the other went silent", workers[1].tail)
    assert endpoint.duplicates == []


def test_sys_exit_in_a_solo_worker(start_worker: StartWorker, producer: MakeProducer, endpoint: Endpoint) -> None:
    """The worker dies of it, and takes its only word on the job with it: the job must not stay active for ever."""
    worker = start_worker(pool=SOLO)
    task_id = producer().send("exit_with", 3)
    worker.process.wait(30)
    wait_until(lambda: walk_of(endpoint, task_id) == f"{BEGUN} failed", 10, "not told", worker.tail)
    assert endpoint.jobs()[task_id][-1]["job"]["error"] == "SystemExit: 3"


def runs_of(endpoint: Endpoint, task_id: str) -> int:
    """How many executions were told, by the ids of their first events."""
    events = [event["job"] for event in endpoint.jobs()[task_id]]
    return len({job["extensions"]["eventId"] for job in events if job["state"] == "active"})
