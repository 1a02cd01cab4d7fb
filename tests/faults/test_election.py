"""Who ships: the worker before a producer, another where the one that ships dies, and what is said where nobody can."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from collections.abc import Callable

import pytest

from sluice_agent.health.problems import problems_of
from sluice_agent.transport.accounting import report_on
from sluice_agent.transport.lock import ship_lock
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
def noting(host: Host) -> dict[str, str]:
    """The variables of processes that leave their notes with the host's."""
    return {name: host.env[name] for name in (CAPTURE_LOG, "TEST_SHORT_WAITS")}


@pytest.mark.parametrize("mood", ["well", "away"])
def test_a_worker_ships_before_a_producer_and_gives_back_what_it_dies_with(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    host: Host,
    noting: dict[str, str],
    mood: str,
) -> None:
    """Without it a web server's process ships for the whole host, and its requests pay for that; or nobody ships."""
    endpoint.standing(*([status(503)] if mood == "away" else []))
    sender = producer(env=noting).start(PUBLISHES)
    wait_until(lambda: host.shipper() == sender.pid and endpoint.requests, 30, "the producer does not ship")
    worker = start_worker(app="tests.faults.app", env=noting)
    wait_until(lambda: host.shipper() == worker.pid, 30, "the worker does not ship", worker.tail)
    endpoint.standing()
    _is_delivered(endpoint)
    assert host.shipper() == worker.pid
    worker.kill()
    wait_until(lambda: host.shipper() == sender.pid, 30, "the producer does not take over", host.report)
    _is_delivered(endpoint)
    worker.start_again()
    wait_until(lambda: host.shipper() == worker.pid, 30, "the worker does not ship again", worker.tail)
    sender.stop()
    assert worker.terminate().code == 0
    host.ship_once()
    host.settled(killed=2 + worker.concurrency)


def test_a_producer_does_not_wait_for_ever_for_a_worker_that_is_stopped(
    start_worker: Callable[..., WorkerProcess], producer: Callable[..., Producer], host: Host, noting: dict[str, str]
) -> None:
    """Without it a worker that hangs just as it asks for the lock ends the delivery of the whole host."""
    sender = producer(env=noting).start(PUBLISHES)
    wait_until(lambda: host.shipper() == sender.pid, 30, "the producer does not ship")
    sender.send(signal.SIGSTOP)
    worker = start_worker(app="tests.faults.app", env=noting)
    wanted = ship_lock(host.journal, "sluice").with_suffix(".wanted")
    wait_until(wanted.exists, 30, "the worker does not ask", worker.tail)
    worker.process.send(signal.SIGSTOP)
    sender.send(signal.SIGCONT)
    before = len(host.endpoint.events)
    wait_until(lambda: len(host.endpoint.events) > before + 100, 30, "nobody ships", host.report)
    worker.process.send(signal.SIGCONT)
    wait_until(lambda: host.shipper() == worker.pid, 30, "the worker does not ship", worker.tail)


def test_a_shipper_that_stands_still_is_named(host: Host) -> None:
    """Without it a process that was stopped holds the lock, nothing arrives, and `status` says that all is well."""
    shipper = host.ship()
    wait_until(lambda: host.shipper() == shipper.pid, 30, "nobody ships")
    shipper.send(signal.SIGSTOP)
    host.publish(3)
    assert _problems(host) == []
    _grow_old(host, 200)
    assert _problems(host) == ["shipper_stuck"]
    assert host.start("-m", "sluice_agent", "status").wait() == 1
    shipper.send(signal.SIGCONT)
    assert host.settled()["delivered"] == 3
    assert _problems(host) == []
    _grow_old(host, 200)  # as a wall clock that jumps makes it look
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


def test_a_holder_whose_threads_do_not_run_is_named_and_replaced(host: Host) -> None:
    """Without it a web process without threads ends the delivery of the whole host, and `status` says all is well."""
    holder = host.start("-c", textwrap.dedent(KEEPS_THE_GIL))
    wait_until(lambda: host.shipper() == holder.pid, 30, "nobody ships", holder.tail)
    host.publish(3)
    within(15, lambda: _problems(host) == ["shipper_stuck"], "status says nothing")
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


def test_a_file_system_without_locks_is_named(host: Host) -> None:
    """Without it a journal on a network's file system fills, nobody ships it, and nobody is told why."""
    env = {**NEVER, "TEST_NO_LOCKS": "1"}
    publisher = host.publishing(env=env, count=20)
    assert publisher.wait() == 0, publisher.tail()
    assert publisher.logs().count("the journal needs flock") == 1
    assert "sluice-agent is off" in publisher.logs()
    codes = {"status": 2, "ship": 2, "doctor": 1}
    run = {name: host.start("-m", "tests.faults.command", name, env={"TEST_NO_LOCKS": "1"}) for name in codes}
    for name, process in run.items():
        assert process.wait() == codes[name], process.tail()
        assert "the journal needs flock" in process.logs()
        assert "SLUICE_STATE_DIR" in process.logs()
    assert host.files() == []


def _is_delivered(endpoint: Endpoint) -> None:
    before = len(endpoint.events)
    wait_until(lambda: len(endpoint.events) > before + 50, 30, "nothing arrives any more")


def _problems(host: Host) -> list[str]:
    found = problems_of(report_on(host.journal, {"sluice": None}), ["sluice"], 1_000_000)
    return [each.problem for each in found]


def _grow_old(host: Host, seconds: float) -> None:
    """The process that ships has last moved so long ago."""
    then = time.time() - seconds
    os.utime(ship_lock(host.journal, "sluice"), (then, then))
