"""Which process has a worker's name, as its events tell it, in any order and from any observer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sluice_agent.server.record.worker_process import WorkerProcess, process_after

Report = tuple[int, dict[str, Any]]


def by_agent(at: int, state: str, pid: int | None) -> Report:
    """Return an event of the worker's own process."""
    return at, {"state": state, "pid": pid, "metadata": {"agent": "0.1.0"}}


def by_sidecar(at: int, state: str, pid: int | None) -> Report:
    """Return an event of an observer from outside."""
    return at, {"state": state, "pid": pid, "metadata": {"software": "celery 5.7.0"}}


def began(reports: Iterable[Report]) -> int | None:
    """Return since when the process after these events has the name."""
    process, latest = None, None
    for at, worker in reports:
        process = WorkerProcess.parse(process_after(process, worker, at, latest).to_json())
        latest = max(at, latest or at)
    assert process is not None
    return process.began


def test_an_agent_reports_each_start() -> None:
    """In a container each process has the same id: nothing else tells that the worker was killed and started again."""
    life = [by_agent(10, "online", 1), by_agent(15, "heartbeat", 1)]
    assert began(life) == 10
    assert began([*life, by_agent(40, "online", 1), by_agent(45, "heartbeat", 1)]) == 40


def test_the_order_of_arrival_does_not_matter() -> None:
    """A process that starts sends what the killed one has left in its journal, after its own first events."""
    later = [by_agent(40, "online", 8), by_agent(45, "busy", 8)]
    earlier = [by_agent(10, "online", 7), by_agent(15, "busy", 7)]
    assert began([*earlier, *later]) == began([*later, *earlier]) == began([later[1], *earlier, later[0]]) == 40


def test_an_observer_that_finds_a_worker_does_not_tell_its_start() -> None:
    """Each restart of a sidecar would turn all running jobs into lost ones."""
    assert began([by_sidecar(10, "online", 7), by_sidecar(60, "online", 7), by_sidecar(70, "heartbeat", 7)]) is None


def test_another_process_id_is_another_process() -> None:
    """A start of which no report has arrived would be missed. What began after the last event of the process before may
    be of either."""
    assert began([by_sidecar(10, "heartbeat", 7), by_sidecar(20, "heartbeat", 7), by_sidecar(60, "online", 8)]) == 20
    assert began([by_agent(10, "online", 7), by_agent(20, "heartbeat", 7), by_agent(60, "heartbeat", 8)]) == 20


def test_two_workers_of_one_name_have_no_lost_jobs() -> None:
    """Each heartbeat of one would turn the running jobs of the other into lost ones."""
    starts = [by_agent(10, "online", 7), by_agent(20, "online", 8)]
    both = [*starts, by_agent(25, "heartbeat", 7), by_agent(26, "heartbeat", 8)]
    assert began(both) is None
    assert began([*both, by_agent(30, "heartbeat", 8)]) is None
    assert began([*both, by_agent(30, "heartbeat", 8), by_agent(90, "online", 9)]) == 90


def test_events_without_a_process_id_change_nothing() -> None:
    """Some clients send none: their heartbeats must not look like a restart."""
    assert began([by_agent(10, "online", 7), by_sidecar(20, "heartbeat", None), by_agent(30, "heartbeat", 7)]) == 10
