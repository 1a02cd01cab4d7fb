"""The ways in which an agent comes into a process, and the processes that it comes into."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support.endpoint import Endpoint
from tests.support.process import ROOT
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

DONE = ["queued", "active", "completed"]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_worker_is_instrumented_with_no_change_of_code(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    sluice_env: dict[str, str],
    pool: str,
) -> None:
    """Without it somebody else's app can't be watched; and the pool's children, forked early, would see nothing."""
    worker = start_worker(pool=pool, agent=False, env=sluice_env, args=["-I", "sluice_agent.auto"])
    job = producer(agent=False).send("add", 1, 2)
    wait_until(lambda: endpoint.states(job) == DONE, 20, "the job did not arrive", worker.tail)
    assert "createdAt" not in endpoint.jobs()[job][0]["job"]


@pytest.mark.parametrize("order", ["before the app", "after the app", "twice"])
def test_the_order_of_install_and_app_does_not_matter(
    endpoint: Endpoint, producer: Callable[..., Producer], order: str
) -> None:
    """Without it the agent works or not by the place of a line in somebody's celery.py."""
    install = "import sluice_agent; sluice_agent.install()\n"
    make = "from tests.integration import tasks\n"
    code = {"before the app": install + make, "after the app": make + install, "twice": install + make + install}
    sender = producer(env={"SLUICE_TEST_INSTALL": "0"})
    job = sender.run(code[order] + "print(tasks.add.delay(1, 2).id)")
    wait_until(lambda: endpoint.states(job) == ["queued"], 10, "the publishing did not arrive")
    assert endpoint.duplicates == []


def test_a_process_that_forks_ships_from_its_children(endpoint: Endpoint, producer: Callable[..., Producer]) -> None:
    """Without it a web server that loads its app before it forks tells nothing, or hangs on a lock it inherited."""
    code = """
        import os, sluice_agent
        from tests.integration.tasks import add
        ids = [add.delay(0, 0).id]           # the parent ships already when it forks
        for number in range(3):
            if os.fork() == 0:
                print(add.delay(number, 1).id, flush=True)
                assert sluice_agent.flush(10)
                os._exit(0)                   # as gunicorn's workers end when they are killed
        for _ in range(3):
            assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        print(ids[0])
    """
    ids = producer().run(code).split()
    assert len(set(ids)) == 4
    wait_until(lambda: all(endpoint.states(job) == ["queued"] for job in ids), 10, "a child's event is missing")
    assert endpoint.duplicates == []


def test_a_journal_that_is_only_written_is_shipped_by_a_command(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Without it a worker that may not reach the network can't be watched through a shared volume."""
    never = {"SLUICE_SHIP": "never", "SLUICE_API_KEY": ""}
    worker = start_worker(env=never)
    job = producer(env=never).send("add", 1, 2)
    wait_until(lambda: "succeeded" in worker.logs(), 20, "the task did not run", worker.tail)
    assert endpoint.requests == []
    env = {**worker.env, "SLUICE_API_KEY": "sk_test"}
    shipper = subprocess.Popen([sys.executable, "-m", "sluice_agent", "ship"], cwd=ROOT, env=env)
    try:
        wait_until(lambda: endpoint.states(job) == DONE, 20, "the command did not ship")
    finally:
        shipper.send_signal(signal.SIGTERM)
        assert shipper.wait(10) == 0
    assert worker.terminate().code == 0


def test_without_a_key_nothing_is_done_and_that_is_said_once(
    start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Without it a developer's machine, where no key is set, is full of errors or can't start its worker."""
    noop = dict.fromkeys(("SLUICE_API_KEY", "SLUICE_CONNECTION_ID", "SLUICE_STATE_DIR"), "")
    worker = start_worker(env={**noop, "XDG_STATE_HOME": os.devnull})
    assert (
        producer(env=noop).run("from tests.integration.tasks import add; print(add.delay(1, 2).get(timeout=20))") == "3"
    )
    assert worker.terminate().code == 0


def test_a_malformed_setting_stops_the_start_with_a_sentence(producer: Callable[..., Producer]) -> None:
    """Without it a typing error in a deployment is found weeks later, when nothing was ever captured."""
    sender = producer(env={"SLUICE_BATCH_SIZE": "many"})
    code = """
        try:
            import tests.integration.tasks
        except Exception as error:
            print(type(error).__name__, error)
    """
    assert sender.run(code).startswith("ConfigError SLUICE_BATCH_SIZE is malformed: 'many'")


def test_a_pool_of_somebodys_is_handed_what_the_producer_has_reported(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """It may override what Celery's pools share: its jobs would then lack when they were created."""
    worker = start_worker(pool="custom", env={"CELERY_CUSTOM_WORKER_POOL": "tests.integration.apps.own_pool:OwnPool"})
    job = producer().send("add", 1, 2)
    wait_until(lambda: endpoint.states(job) == DONE, 20, "the job did not arrive", worker.tail)
    assert len({event["job"].get("createdAt") for event in endpoint.jobs()[job]}) == 1
