"""A wall clock that goes wrong by an hour, back and forth, while everything runs."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.host import Host
from tests.support.accounting import assert_balanced
from tests.support.capture_log import CAPTURE_LOG
from tests.support.endpoint import Endpoint
from tests.support.misbehaviour import status, too_many
from tests.support.producer import Producer
from tests.support.waiting import wait_until
from tests.support.worker import WorkerProcess

HOUR = 3_600
NAME = re.compile(r"\d{20}-(events|vitals)-\d+-[0-9a-f]{8}\.v1\.ndjson")


@pytest.fixture
def clock(tmp_path: Path, host: Host) -> Path:
    """The file with the seconds by which the clock is wrong in all processes of the host."""
    file = tmp_path / "clock"
    file.write_text("0")
    host.env["TEST_CLOCK"] = str(file)
    return file


def set_clock(clock: Path, seconds: float) -> None:
    """Set the clock, in one step."""
    draft = clock.with_suffix(".draft")
    draft.write_text(str(seconds))
    draft.replace(clock)


def test_what_is_captured_while_the_clock_jumps_arrives(host: Host, clock: Path) -> None:
    """Without it a virtual machine that was resumed, or a time server's correction, ends the delivery."""
    publisher, shipper = host.publishing(a_second=200), host.ship()
    for seconds in (0, HOUR, -HOUR, 24 * 30 * HOUR, 0, -HOUR / 2):
        set_clock(clock, seconds)
        host.endpoint.script(status(503), too_many("1"))  # each is a wait with a deadline
        goal = len(host.endpoint.events) + 100
        wait_until(lambda goal=goal: len(host.endpoint.events) > goal, 15, "no more events arrive", host.report)
        assert all(NAME.fullmatch(name) for name in host.files())
    publisher.send(signal.SIGTERM)
    publisher.wait()
    wait_until(lambda: host.pending() == 0, 15, "something still waits", host.report)
    host.end(shipper)
    host.settled(killed=1)


def test_files_of_a_clock_that_went_back_are_delivered_and_removed(host: Host, clock: Path) -> None:
    """Without it a segment that is older than the cursor's last is skipped, and stays for ever."""
    for seconds in (0, -HOUR, HOUR, -2 * HOUR):
        set_clock(clock, seconds)
        host.publish(5)
        host.ship_once()
    assert host.settled()["delivered"] == 20
    assert host.files() == []


def test_a_worker_survives_it(
    endpoint: Endpoint,
    start_worker: Callable[..., WorkerProcess],
    producer: Callable[..., Producer],
    host: Host,
    clock: Path,
) -> None:
    """Without it a worker seems dead for an hour, and a job that ran meanwhile seems to end before it started."""
    log_env = {CAPTURE_LOG: host.env[CAPTURE_LOG], "TEST_CLOCK": str(clock)}
    worker = start_worker(app="tests.faults.app", env={**log_env, "SLUICE_HEARTBEAT_INTERVAL": "0.2"})
    sender = producer(agent=False)

    def beats() -> int:
        return len([event for event in list(endpoint.events) if event["type"] == "worker_heartbeat"])

    for seconds in (HOUR, -HOUR, 0):
        set_clock(clock, seconds)
        before = beats()
        job = sender.send("add", 1, 2)
        wait_until(lambda job=job: len(endpoint.jobs().get(job, [])) == 3, 15, "the job did not arrive", worker.tail)
        wait_until(lambda before=before: beats() > before + 3, 15, "no heartbeat arrives", worker.tail)
    for again, states in (
        (False, "queued active active active completed"),
        (True, "queued active active active retrying"),
    ):
        set_clock(clock, HOUR)
        task = {"args": (str(clock), 0), "kwargs": {"retry": again}}
        job = worker.broker.app().send_task("tests.faults.app.set_clock", **task).id
        wait_until(lambda job=job: "completed" in endpoint.states(job), 15, "the job did not end", worker.tail)
        first = [event for event in endpoint.jobs()[job] if event["job"]["attempt"] == 1]
        assert " ".join(event["job"]["state"] for event in first) == states
        assert all("startedAt" in event["job"] for event in first[1:])
    assert worker.terminate().code == 0
    assert assert_balanced(worker.env, endpoint)["pending"] == 0
