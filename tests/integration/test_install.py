"""The ways to install the agent, and the processes that it is installed in."""

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
    """Otherwise third-party apps could not be monitored, or their pool children, forked early, would report nothing."""
    worker = start_worker(pool=pool, agent=False, env=sluice_env, args=["-I", "sluice_agent.auto"])
    job = producer(agent=False).send("add", 1, 2)
    wait_until(lambda: endpoint.states(job) == DONE, 20, "the job did not arrive", worker.tail)
    assert "createdAt" not in endpoint.jobs()[job][0]["job"]


@pytest.mark.parametrize("order", ["before the app", "after the app", "twice"])
def test_the_order_of_install_and_app_does_not_matter(
    endpoint: Endpoint, producer: Callable[..., Producer], order: str
) -> None:
    """Otherwise the agent would depend on the position of a line in the user's celery.py."""
    install = "import sluice_agent; sluice_agent.install()\n"
    make = "from tests.integration import tasks\n"
    code = {"before the app": install + make, "after the app": make + install, "twice": install + make + install}
    sender = producer(env={"SLUICE_TEST_INSTALL": "0"})
    job = sender.run(code[order] + "print(tasks.add.delay(1, 2).id)")
    wait_until(lambda: endpoint.states(job) == ["queued"], 10, "the publication did not arrive")
    assert endpoint.duplicates == []


def test_a_process_that_forks_ships_from_its_children(endpoint: Endpoint, producer: Callable[..., Producer]) -> None:
    """Otherwise a web server that loads its app before it forks would report nothing, or hang on an inherited lock."""
    code = """
        import os, sluice_agent
        from tests.integration.tasks import add
        ids = [add.delay(0, 0).id]           # the parent ships already when it forks
        for number in range(3):
            if os.fork() == 0:
                print(add.delay(number, 1).id, flush=True)
                assert sluice_agent.flush(10)
                os._exit(0)                   # as a killed gunicorn worker ends
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
    """Otherwise a worker without network access could not be monitored through a shared volume."""
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


def test_without_a_key_the_agent_is_off(
    start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """Otherwise a developer's machine, where no key is set, would log errors or not start its worker."""
    noop = dict.fromkeys(("SLUICE_API_KEY", "SLUICE_CONNECTION_ID", "SLUICE_STATE_DIR"), "")
    worker = start_worker(env={**noop, "XDG_STATE_HOME": os.devnull})
    assert (
        producer(env=noop).run("from tests.integration.tasks import add; print(add.delay(1, 2).get(timeout=20))") == "3"
    )
    assert worker.terminate().code == 0


def test_a_malformed_setting_stops_the_start_with_a_sentence(producer: Callable[..., Producer]) -> None:
    """Otherwise a typing error in a deployment would be found weeks later, with nothing captured."""
    sender = producer(env={"SLUICE_BATCH_SIZE": "many"})
    code = """
        try:
            import tests.integration.tasks
        except Exception as error:
            print(type(error).__name__, error)
    """
    assert sender.run(code).startswith("ConfigError SLUICE_BATCH_SIZE is malformed: 'many'")


def test_a_third_party_pool_receives_the_producers_header(
    endpoint: Endpoint, start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer]
) -> None:
    """It may override a method that Celery's pools share: its jobs would then lack the time of their creation."""
    worker = start_worker(pool="custom", env={"CELERY_CUSTOM_WORKER_POOL": "tests.integration.apps.own_pool:OwnPool"})
    job = producer().send("add", 1, 2)
    wait_until(lambda: endpoint.states(job) == DONE, 20, "the job did not arrive", worker.tail)
    assert len({event["job"].get("createdAt") for event in endpoint.jobs()[job]}) == 1
