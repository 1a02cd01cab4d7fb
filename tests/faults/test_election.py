"""Which process ships: a worker before a producer, another if it dies; and what is reported if no process can."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from collections.abc import Callable

import pytest

from sluice_agent.health.problems import problems_of
from sluice_agent.transport.delivery.destinations import SLUICE
from sluice_agent.transport.journal.accounting import report_on
from sluice_agent.transport.journal.ship_lock import ship_lock
from tests.faults.host import NEVER, Host
from tests.support.capture_log import CAPTURE_LOG
from tests.support.endpoint import Endpoint
from tests.support.misbehaviour import status
from tests.support.producer import Producer
from tests.support.waiting import wait_until, within
from tests.support.worker import WorkerProcess

PUBLISHES = """
    from tests.faults.app import app, noop
    import time
    with app.producer_pool.acquire() as producer:
        while True:
            noop.apply_async(producer=producer)
            time.sleep(0.02)
"""


@pytest.fixture
def log_env(host: Host) -> dict[str, str]:
    """The variables of processes that use the host's capture log."""
    return {name: host.env[name] for name in (CAPTURE_LOG, "TEST_SHORT_WAITS")}


@pytest.mark.long
@pytest.mark.parametrize("endpoint_state", ["up", "unavailable"])
def test_a_worker_ships_before_a_producer_which_takes_over_when_it_dies(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    host: Host,
    log_env: dict[str, str],
    endpoint_state: str,
) -> None:
    """Without it a web server's process ships for the whole host, and slows its requests; or no process ships."""
    endpoint.standing(*([status(503)] if endpoint_state == "unavailable" else []))
    sender = producer(env=log_env).start(PUBLISHES)
    wait_until(lambda: host.shipper() == sender.pid and endpoint.requests, 30, "the producer does not ship")
    worker = start_worker(app="tests.faults.app", env=log_env)
    wait_until(lambda: host.shipper() == worker.pid, 30, "the worker does not ship", worker.tail)
    endpoint.standing()
    _wait_for_delivery(endpoint)
    assert host.shipper() == worker.pid
    worker.kill()
    wait_until(lambda: host.shipper() == sender.pid, 30, "the producer does not take over", host.report)
    _wait_for_delivery(endpoint)
    worker.start_again()
    wait_until(lambda: host.shipper() == worker.pid, 30, "the worker does not ship again", worker.tail)
    sender.stop()
    assert worker.terminate().code == 0
    host.ship_once()
    host.settled(killed=2 + worker.concurrency)


def test_a_producer_does_not_wait_for_ever_for_a_worker_that_is_stopped(
    start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer], host: Host, log_env: dict[str, str]
) -> None:
    """Without it a worker that hangs just as it requests the lock ends the delivery of the whole host."""
    sender = producer(env=log_env).start(PUBLISHES)
    wait_until(lambda: host.shipper() == sender.pid, 30, "the producer does not ship")
    sender.send(signal.SIGSTOP)
    worker = start_worker(app="tests.faults.app", env=log_env)
    request = ship_lock(host.journal, "sluice").with_suffix(".wanted")
    wait_until(request.exists, 30, "the worker does not request the lock", worker.tail)
    worker.process.send(signal.SIGSTOP)
    sender.send(signal.SIGCONT)
    before = len(host.endpoint.events)
    wait_until(lambda: len(host.endpoint.events) > before + 100, 30, "no process ships", host.report)
    worker.process.send(signal.SIGCONT)
    wait_until(lambda: host.shipper() == worker.pid, 30, "the worker does not ship", worker.tail)


def test_a_shipper_that_is_stopped_is_reported(host: Host) -> None:
    """Without it a stopped process holds the lock, nothing arrives, and `status` reports no problem."""
    shipper = host.ship()
    wait_until(lambda: host.shipper() == shipper.pid, 30, "no process ships")
    shipper.send(signal.SIGSTOP)
    host.publish(3)
    assert _problems(host) == []
    _age_the_lock(host, 200)
    assert _problems(host) == ["shipper_stuck"]
    assert host.start("-m", "sluice_agent", "status").wait() == 1
    shipper.send(signal.SIGCONT)
    assert host.settled()["delivered"] == 3
    assert _problems(host) == []
    _age_the_lock(host, 200)  # as after a jump of the wall clock
    assert _problems(host) == []


KEEPS_THE_GIL = """
    import ctypes, signal
    from tests.faults.app import noop
    import sluice_agent
    signal.signal(signal.SIGUSR1, lambda *_: None)
    noop.delay()
    ctypes.PyDLL(None).pause()      # until the signal comes no thread of Python's runs, as in uWSGI without threads
    noop.delay()
    assert sluice_agent.flush(15)
"""


def test_a_holder_whose_threads_do_not_run_is_reported_and_replaced(host: Host) -> None:
    """Without it a web process without threads ends the delivery of the whole host, and `status` reports no problem."""
    holder = host.start("-c", textwrap.dedent(KEEPS_THE_GIL))
    wait_until(lambda: host.shipper() == holder.pid, 30, "no process ships", holder.tail)
    host.publish(3)
    within(15, lambda: _problems(host) == ["shipper_stuck"], "status reports nothing")
    shipper = host.ship()
    wait_until(lambda: host.shipper() == shipper.pid, 15, "it does not take over", shipper.tail)
    wait_until(lambda: host.settled()["delivered"] == 4, 20, "something is missing", host.report)
    assert shipper.logs().count(f"Process {holder.pid} on ") == 1
    assert _problems(host) == []
    holder.send(signal.SIGUSR1)
    assert holder.wait() == 0, holder.tail()
    assert host.settled()["delivered"] == 5
    assert host.shipper() == shipper.pid
    host.end(shipper)


def test_a_file_system_without_locks_is_reported(host: Host) -> None:
    """Without it a journal on a network file system fills, no process ships it, and the user does not learn why."""
    env = {**NEVER, "TEST_NO_LOCKS": "1"}
    publisher = host.publishing(env=env, count=20)
    assert publisher.wait() == 0, publisher.tail()
    assert publisher.logs().count("the journal needs flock") == 1
    assert "sluice-agent is off" in publisher.logs()
    codes = {"status": 2, "ship": 2, "doctor": 1}
    processes = {name: host.start("-m", "tests.faults.command", name, env={"TEST_NO_LOCKS": "1"}) for name in codes}
    for name, process in processes.items():
        assert process.wait() == codes[name], process.tail()
        assert "the journal needs flock" in process.logs()
        assert "SLUICE_STATE_DIR" in process.logs()
    assert host.files() == []


def _wait_for_delivery(endpoint: Endpoint) -> None:
    before = len(endpoint.events)
    wait_until(lambda: len(endpoint.events) > before + 50, 30, "no more events arrive")


def _problems(host: Host) -> list[str]:
    findings = problems_of(report_on(host.journal, {"sluice": None}), [SLUICE], 1_000_000)
    return [finding.problem for finding in findings]


def _age_the_lock(host: Host, seconds: float) -> None:
    """Set the shipper's last sign of life to so many seconds ago."""
    then = time.time() - seconds
    os.utime(ship_lock(host.journal, "sluice"), (then, then))
