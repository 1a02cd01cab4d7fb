"""The daily budget: it is spent on transitions of jobs first, and the events that are left out are counted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_agent.transport.delivery.budget import Budget, may_send
from sluice_agent.transport.delivery.responses import Settled, Verdict
from sluice_agent.transport.delivery.shipper import Shipper
from sluice_agent.transport.journal.accounting import report_on
from sluice_agent.transport.journal.line import VITALS, Kind, kind_of
from sluice_agent.transport.journal.writer import JournalWriter
from tests.unit.transport.lines import CONNECTION, heartbeat, job

MIDNIGHT = datetime(2026, 1, 1, tzinfo=timezone.utc)
STEP = timedelta(minutes=5)
DAY = 86_400  # seconds


def worker(state: str) -> bytes:
    """Return a worker's change of state."""
    fields = {"externalId": "w@h", "hostname": "h", "state": state, "metadata": {"eventId": state}}
    wire = {"type": "worker_state_change", "timestamp": "2026-01-01T00:00:00Z", "framework": "celery"}
    return json.dumps({**wire, "connectionId": CONNECTION, "worker": fields}, separators=(",", ":")).encode()


def queue(number: int) -> bytes:
    """Return a queue snapshot."""
    wire = {"type": "queue_snapshot", "timestamp": "2026-01-01T00:00:00Z", "framework": "celery"}
    fields = {"connectionId": CONNECTION, "queue": {"name": "q", "depth": number}}
    return json.dumps({**wire, **fields}, separators=(",", ":")).encode()


def progress(number: int) -> bytes:
    """Return a job's progress event."""
    return job(number, "active", progress=0.5, extensions={"celeryState": "PROGRESS"})


class AcceptingDestination:
    """A destination that takes everything, by kind."""

    def __init__(self) -> None:
        self.read: Counter[Kind] = Counter()
        self.requests = 0
        self.during_request: Callable[[], object] = lambda: None

    def send(self, lines: list[bytes]) -> Verdict:
        self.requests += 1
        self.during_request()
        self.read.update(map(kind_of, lines))
        return Settled(len(lines), 0, 0)

    def close(self) -> None:
        """Nothing is open."""


class Host:
    """A worker's host whose clock the test sets. Every `ship` is a new process."""

    def __init__(self, directory: Path, budget: int) -> None:
        self.directory = directory
        self.budget: int | None = budget
        self.now = MIDNIGHT
        self.journal = JournalWriter(directory, 64_000_000)
        self.destination = AcceptingDestination()

    def write(self, *lines: bytes) -> None:
        for line in lines:
            self.journal.append(line, VITALS if kind_of(line) in (Kind.HEARTBEAT, Kind.QUEUE) else "events")

    def ship(self) -> None:
        budget = Budget(self.budget, lambda: self.now)
        shipper = Shipper(
            self.directory,
            "sluice",
            lambda _: self.destination,
            interval=1,
            max_lines=500,
            max_bytes=1_000_000,
            budget=budget,
        )
        shipper.begin_shutdown(30)
        shipper.run()

    def figures(self) -> dict[str, Any]:
        """The accounts, which must add up."""
        accounts: dict[str, Any] = dict(report_on(self.directory, {"sluice": None}))
        settled = accounts["delivered"] + accounts["rejected"] + sum(accounts["dropped"].values())
        assert accounts["captured"] == settled + accounts["pending"]
        return accounts


@pytest.fixture
def host(directory: Path) -> Iterator[Host]:
    """A host with a budget of 10,000 events a day."""
    host = Host(directory, 10_000)
    yield host
    host.journal.close()


def test_the_day_of_a_worker_within_ten_thousand_events(host: Host) -> None:
    """Heartbeats alone would use up the free plan by early afternoon, and every job after that would be unseen."""
    captured: Counter[Kind] = Counter()
    for step in range(DAY // int(STEP.total_seconds())):
        heartbeats, snapshots = 60, 30  # every 5 s, every 10 s
        jobs = [job(step * 100 + number, state) for number in range(4) for state in ("queued", "active", "completed")]
        lines = [*map(heartbeat, range(heartbeats)), *map(queue, range(snapshots)), *map(progress, range(20)), *jobs]
        captured.update(map(kind_of, lines))
        host.write(*lines)
        host.now = MIDNIGHT + STEP * step
        host.ship()
    sent, accounts = host.destination.read, host.figures()
    assert captured == {Kind.HEARTBEAT: 17_280, Kind.QUEUE: 8_640, Kind.PROGRESS: 5_760, Kind.TRANSITION: 3_456}
    assert sent.total() <= 10_000
    assert accounts["spent"] == {"day": "2026-01-01", "events": sent.total()}
    assert accounts["dropped"] == {
        f"budget_{kind.value}": captured[kind] - sent[kind] for kind in (Kind.HEARTBEAT, Kind.QUEUE, Kind.PROGRESS)
    }
    part = [sent[kind] / captured[kind] for kind in Kind]
    assert 0 < part[0] < part[1] < part[2] < part[3] == 1
    assert accounts["pending"] == 0


def test_an_idle_worker_is_seen_all_day(host: Host) -> None:
    """A quiet day's heartbeats must last until midnight rather than stop at noon."""
    gaps = []
    for step in range(288):
        host.write(*map(heartbeat, range(60)))
        before = host.destination.read.total()
        host.now = MIDNIGHT + STEP * step
        host.ship()
        gaps.append(host.destination.read.total() - before)
    assert min(gaps) > 0
    assert 5_000 < sum(gaps) <= 6_000


def test_a_small_budget_is_not_thinned_without_need(host: Host) -> None:
    """A user who stays far below the limit must see every heartbeat, also just after midnight."""
    for step in range(288):
        host.now = MIDNIGHT + STEP * step
        host.write(heartbeat(step), queue(step), progress(step), job(step, "completed"))
        host.ship()
    assert host.figures()["dropped"] == {}
    assert host.destination.read.total() == 4 * 288


def test_transitions_wait_for_the_next_day_and_are_never_dropped(host: Host) -> None:
    """The budget is the user's wish to pay no more today, not to know less."""
    host.budget = 100
    host.now = MIDNIGHT + timedelta(hours=12)
    host.write(*(job(number, "completed") for number in range(250)))
    for _ in range(3):
        host.write(heartbeat(1), queue(1))
        host.ship()
    assert host.destination.read == {Kind.TRANSITION: 100}
    accounts = host.figures()
    assert accounts["pending"] == 150
    assert accounts["dropped"] == {"budget_heartbeat": 3, "budget_queue": 3}
    assert accounts["spent"] == {"day": "2026-01-01", "events": 100}
    assert accounts["last_error"] is None
    for day in (1, 2):
        host.now = MIDNIGHT + timedelta(days=day)
        host.ship()
        assert host.destination.read[Kind.TRANSITION] == min(100 + day * 100, 250)
    assert host.figures()["dropped"] == {"budget_heartbeat": 3, "budget_queue": 3}


def test_a_spent_budget_makes_no_request(host: Host) -> None:
    """An endpoint whose daily limit is reached must not be asked every second until midnight."""
    host.budget = 1
    host.write(job(1, "queued"), job(1, "active"), heartbeat(1))
    for _ in range(5):
        host.ship()
    assert host.destination.requests == 1


def test_what_waits_over_midnight_is_the_new_days(host: Host) -> None:
    """A backlog that goes out after an outage would be free, and the endpoint's own limit be hit before noon."""
    host.now = MIDNIGHT + timedelta(hours=23)
    host.write(job(1, "queued"))
    host.destination.during_request = lambda: setattr(host, "now", MIDNIGHT + timedelta(hours=25))
    host.ship()
    assert host.figures()["spent"] == {"day": "2026-01-02", "events": 1}


def test_a_clock_that_steps_over_midnight_and_back_gives_no_second_budget(host: Host) -> None:
    """Two hosts that correct a clock in turn would double what the user pays for."""
    host.budget = 10
    host.write(*(job(number, "completed") for number in range(50)))
    for minutes in (1, -1, 1, -1, 1):
        host.now = MIDNIGHT + timedelta(minutes=minutes)
        host.ship()
    assert host.destination.read.total() == 10
    host.now = MIDNIGHT + timedelta(days=1)
    host.ship()
    assert host.destination.read.total() == 20


def test_a_clock_that_was_wrong_by_years_does_not_stop_the_budget(host: Host) -> None:
    """A host that started with its clock in 2038 would send nothing until then."""
    host.budget = 10
    host.now = MIDNIGHT.replace(year=2038)
    host.write(*(job(number, "completed") for number in range(50)))
    host.ship()
    host.now = MIDNIGHT
    host.ship()
    assert host.destination.read.total() == 20
    assert host.figures()["spent"] == {"day": "2026-01-01", "events": 10}


def test_a_shipper_without_a_budget_spends_it_too(host: Host) -> None:
    """The budget is the journal's: a shipper without the variable would send a day's worth on top of it."""
    host.write(*(job(number, "completed") for number in range(10)))
    host.budget = None
    host.ship()
    host.budget = 10
    host.write(job(11, "completed"))
    host.ship()
    assert host.destination.read.total() == 10
    assert host.figures()["pending"] == 1


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (heartbeat(1), Kind.HEARTBEAT),
        (worker("busy"), Kind.HEARTBEAT),
        (worker("idle"), Kind.HEARTBEAT),
        (worker("online"), Kind.TRANSITION),
        (worker("offline"), Kind.TRANSITION),
        (queue(1), Kind.QUEUE),
        (progress(1), Kind.PROGRESS),
        (job(1, "active"), Kind.TRANSITION),
        (job(1, "failed", error='"celeryState":"PROGRESS"'), Kind.TRANSITION),
        (job(1, "completed", progress=1.0), Kind.TRANSITION),
    ],
)
def test_what_is_thinned(line: bytes, kind: Kind) -> None:
    """A verdict that is taken for a heartbeat would be thrown away."""
    assert kind_of(line) is kind


@given(st.integers(0, 20_000), st.integers(1, 20_000), st.floats(0, 1))
def test_heartbeats_go_first_and_transitions_last(spent: int, budget: int, fraction: float) -> None:
    """Nothing may be left out while something that matters less still goes; and nothing goes beyond the budget."""
    may_be_sent = [may_send(spent, budget, fraction, kind) for kind in Kind]
    assert may_be_sent == sorted(may_be_sent)
    assert not any(may_be_sent) or spent < budget
    assert may_be_sent[-1] is (spent < budget)
