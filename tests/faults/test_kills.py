"""SIGKILL to any process, at any moment."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.faults.host import Host
from tests.support.accounting import assert_balanced
from tests.support.capture_log import CAPTURE_LOG
from tests.support.endpoint import Endpoint
from tests.support.misbehaviour import Behaviour, hangs, lost_answer, ok, reset_mid_answer, status
from tests.support.process import Process
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

Repeats = Callable[[int, int], int]
PUBLISHES = """
    from tests.faults.app import app, noop
    import time
    with app.producer_pool.acquire() as producer:
        while True:
            noop.apply_async(producer=producer)
            time.sleep(0.004)
"""


@pytest.mark.long
@pytest.mark.parametrize("seed", [1])
def test_events_of_killed_workers_arrive(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    host: Host,
    repeats: Repeats,
    seed: int,
) -> None:
    """Without it an out-of-memory kill loses the events in which a user would look for its cause."""
    chance = random.Random(seed)
    log_env = {name: host.env[name] for name in (CAPTURE_LOG, "TEST_SHORT_WAITS")}
    worker = start_worker(app="tests.faults.app", env=log_env)
    sender = producer(env={**log_env, "SLUICE_SHIP": "never"}).start(PUBLISHES)
    killed = 0
    for number in range(repeats(8, 100)):
        goal = len(endpoint.events) + chance.randrange(20, 120)
        wait_until(lambda goal=goal: len(endpoint.events) > goal, 30, "no more events arrive", worker.tail)
        if number % 4 == 3:
            killed += 1 + len(worker.pids())  # its children end with it
            worker.kill()
            worker.start_again()
        else:
            children = wait_until(worker.pids, 10, "there are no children")
            psutil.Process(chance.choice(children)).kill()
            killed += 1
    sender.stop()
    killed += 1
    worker.broker.app().control.purge()  # the jobs that were left by killed workers
    last = producer(env=log_env).send(
        "noop"
    )  # a shutdown amid results makes billiard's children wait for half a minute
    wait_until(lambda: "completed" in endpoint.states(last), 60, "the last did not arrive", worker.tail)
    assert worker.terminate().code == 0
    assert_balanced(worker.env, endpoint, killed=killed)
    assert host.ship_once().exit_code == 0
    assert host.settled(killed=killed)["dropped"].keys() <= {"corrupt"}


def test_a_job_that_two_pool_processes_run_has_two_runs(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer], tmp_path: Path
) -> None:
    """Without it a job that Celery ran twice, as two processes died at once, is shown with one run."""
    slow = tmp_path / "slow"
    worker = start_worker(app="tests.faults.app", env={"TEST_SLOW_POOL": str(slow)})
    first, second = map(psutil.Process, wait_until(lambda: _pair(slow), 20, "no two processes take jobs", worker.tail))
    first.suspend()
    second.suspend()
    jobs = producer().send_all(("noop",), ("noop",))
    wait_until(lambda: _written(worker) == 2, 20, "the pool does not hand them out", worker.tail)
    first.resume()
    ended = wait_until(lambda: [job for job in jobs if "completed" in endpoint.states(job)], 20, "none is run")
    (job,) = set(jobs) - set(ended)
    slow.touch()
    first.kill()
    wait_until(slow.with_suffix(".found").exists, 20, "the pool does not notice its end", worker.tail)
    second.resume()
    wait_until(lambda: "completed" in endpoint.states(job), 20, "it is not run", worker.tail)
    second.kill()
    wait_until(lambda: second.status() == psutil.STATUS_ZOMBIE, 20, "it is still alive")
    slow.unlink()
    runs = ["active", "completed"]
    wait_until(lambda: endpoint.states(job) == ["queued", *runs, *runs], 20, "no second run", endpoint.walks)
    assert endpoint.duplicates == []
    assert worker.terminate().code == 0


def test_a_failure_that_two_processes_report_is_one(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Without it a process that is killed right after its job has failed reports one failure as two."""
    worker = start_worker(app="tests.faults.app", conf={"worker_lost_wait": 0.1})
    job = producer().run("from tests.faults.app import fail_and_die\nprint(fail_and_die.delay().id)").splitlines()[-1]
    wait_until(lambda: len(endpoint.duplicates) == 1, 20, "its main process reports nothing", endpoint.walks)
    assert endpoint.states(job) == ["queued", "active", "failed"]
    assert worker.terminate().code == 0


@pytest.mark.long
@pytest.mark.parametrize("seed", [1])
def test_batches_of_killed_shippers_are_shipped_by_the_next(host: Host, repeats: Repeats, seed: int) -> None:
    """Without it a kill between the answer and the cursor loses a batch, or shows each of its jobs twice."""
    chance = random.Random(seed)
    publisher = host.publishing(a_second=300)
    first, second = host.ship(), host.ship()
    for _ in range(repeats(10, 100)):
        before = host.endpoint.requests[-1:]
        _script_a_fault(host.endpoint, chance)
        wait_until(lambda before=before: host.endpoint.requests[-1:] != before, 20, "no process ships", host.report)
        _wait_for_more(host, chance.randrange(3))
        first, second = _kill_the_shipper(host, first, second)
    host.endpoint.unscript()
    host.endpoint.release()
    wait_until(lambda: host.status()["delivered"] > 0, 20, "no process ships", host.report)
    publisher.stop()
    host.end(first, second)
    host.ship_once()
    assert host.settled(killed=1)["dropped"].keys() <= {"corrupt"}


def test_a_kill_between_the_answer_and_the_cursor_doubles_nothing(host: Host) -> None:
    """Without it a kill after the endpoint accepted a batch, and before the host knew, shows each of its jobs twice."""
    host.publish(700)
    host.endpoint.script(ok, hangs(accepted=True))
    shipper = host.ship(env={"TEST_SHORT_WAITS": "0"})  # on a busy machine an answer takes longer than a short wait
    wait_until(lambda: len(host.endpoint.events) == 700, 20, "no process ships", host.report)
    shipper.send(signal.SIGKILL)
    shipper.wait()
    host.endpoint.release()
    assert host.balanced()["pending"] == 200
    host.ship_once()
    report = host.settled()
    assert (report["delivered"], report["duplicates"]) == (700, 200)
    assert [event["job"]["externalId"] for event in host.endpoint.duplicates] == [
        event["job"]["externalId"] for event in host.endpoint.events[500:]
    ]


def test_killed_publishers_lose_no_captured_event(host: Host, repeats: Repeats) -> None:
    """Without it the jobs that a killed script had published are unknown, and its segment is kept for ever."""
    chance = random.Random(2)
    for _ in range(repeats(4, 100)):
        captured = host.captured()
        publisher = host.publishing()
        goal = chance.randrange(1, 1_000)
        wait_until(lambda captured=captured, goal=goal: host.captured() > captured + goal, 20, "nothing is published")
        publisher.send(signal.SIGKILL)
        publisher.wait()
    killed = repeats(4, 100)
    wait_until(lambda: host.ship_once(120) and host.pending() == 0, 60, "something still waits", host.report)
    assert host.balanced(killed=killed)["dropped"].keys() <= {"corrupt"}
    assert host.files() == []


def _pair(slow: Path) -> list[int]:
    """Return both processes of the pool in the order of their start; an empty list until both take jobs."""
    file = slow.with_suffix(".up")
    children = sorted(map(int, file.read_text().split())) if file.exists() else []
    return children if len(children) == 2 else []


def _written(worker: WorkerProcess) -> int:
    """Return the number of jobs that the pool has written to its processes so far."""
    answers = worker.broker.app().control.inspect([worker.hostname], timeout=1.0).stats()
    return int(answers[worker.hostname]["pool"]["writes"]["total"])


def _script_a_fault(endpoint: Endpoint, chance: random.Random) -> None:
    """Script two random behaviours for the next requests, during which the shipper may be killed."""
    ways: list[Behaviour] = [ok, hangs(accepted=True), hangs(), lost_answer, reset_mid_answer, status(503)]
    endpoint.script(*chance.choices(ways, k=2))


def _wait_for_more(host: Host, requests: int) -> None:
    goal = len(host.endpoint.requests) + requests
    wait_until(lambda: len(host.endpoint.requests) >= goal, 20, "no process ships", host.report)


def _kill_the_shipper(host: Host, first: Process, second: Process) -> tuple[Process, Process]:
    """Kill the shipper, wait until the other takes over, and start a new one in its place."""
    pid = wait_until(host.shipper, 20, "no process ships", host.report)
    victim, successor = (first, second) if pid == first.pid else (second, first)
    victim.send(signal.SIGKILL)
    victim.wait()
    wait_until(lambda: host.shipper() == successor.pid, 20, "no process took over", host.report)
    return successor, host.ship()
