"""The states of a run, against the table of the contract, in random sequences of events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_agent.jobs.runs.transitions import (
    Canceled,
    Claimed,
    Due,
    Ending,
    Event,
    Expired,
    Faulted,
    Finished,
    Held,
    Lost,
    Met,
    Postponed,
    Released,
    Replayed,
    Rescheduled,
    RunState,
    Started,
    TransitionError,
    advance,
)
from sluice_agent.jobs.status import TERMINAL, Status
from sluice_agent.jobs.store.schema import run as run_table
from tests.support.examples import examples

LEGAL = {
    "delayed": "delayed queued waiting expired canceled completed dead_letter",  # the last two by a late report
    "queued": "queued delayed dequeued expired canceled completed dead_letter",
    "waiting": "waiting queued expired canceled completed dead_letter",
    "dequeued": "dequeued queued executing system_failed canceled completed dead_letter expired",  # expired: a task
    "executing": "queued completed dead_letter timed_out crashed system_failed canceled",
    "dead_letter": "queued waiting",
}
"""The table of the contract: where each state leads."""

NOW = 1_000


def run_in(status: Status, **values: Any) -> RunState:
    """Return a run in a state, in the first of three attempts unless `values` differ."""
    return replace(RunState(status, 1, 0, 3, has_started=False), **values)


@dataclass
class Life:
    """A run that events change, and what an endpoint would see of it."""

    run: RunState
    started: list[tuple[int, int]] = field(default_factory=list)
    """(retries, attempt) of each start."""

    ends: int = 0

    def offer(self, event: Event) -> None:
        """Let an event happen if it can, and check what it changes."""
        before = self.run
        try:
            changes = advance(before, event, NOW)
        except TransitionError:
            return
        assert changes["status"].value in LEGAL[before.status.value].split()
        assert changes.keys() <= set(run_table.c.keys())
        self.run = RunState(
            changes["status"],
            changes.get("attempt", before.attempt),
            changes.get("retries", before.retries),
            before.max_attempts,
            before.has_started or "first_started_at" in changes,
        )
        if isinstance(event, Started):
            self.started.append((self.run.retries, self.run.attempt))
        self.check(before, changes)

    def check(self, before: RunState, changes: dict[str, Any]) -> None:
        """Check what holds for every change."""
        assert 1 <= self.run.attempt <= self.run.max_attempts
        assert self.run.retries >= before.retries
        assert (self.run.attempt != before.attempt) <= (self.run.retries > before.retries)
        assert len(self.started) == len(set(self.started)) == len({retries for retries, _ in self.started})
        if self.run.status in TERMINAL:
            assert changes["finished_at"] == NOW
            assert changes["next_retry_at"] is None
        if self.run.status is Status.EXPIRED:
            assert not self.started
        if self.run.status is Status.QUEUED and self.run.retries > before.retries:
            assert changes["ticket_hash"] is None


def events(retries: int = 0) -> st.SearchStrategy[Event]:
    """Return any event, in reports of the attempts around `retries`."""
    return st.one_of(
        st.builds(Due, st.booleans()),
        st.just(Met()),
        st.just(Rescheduled(NOW + 5, None)),
        st.just(Expired()),
        st.just(Canceled()),
        st.just(Claimed(NOW + 60, b"hash")),
        st.just(Held(NOW + 1)),
        st.just(Postponed(NOW + 1)),
        st.just(Released(NOW)),
        st.just(Started()),
        st.builds(Finished, st.integers(0, 6), st.sampled_from(Ending), st.just(NOW + 1)),
        st.just(Lost(NOW + 1)),
        st.just(Faulted("no storage")),
        st.builds(Replayed, st.booleans()),
    )


def ordinary() -> st.SearchStrategy[Event]:
    """Return events that a run meets most often: it is claimed, started, and an attempt ends."""
    return st.one_of(st.just(Claimed(NOW, b"")), st.just(Started()), events())


@settings(max_examples=examples(500))
@given(st.sampled_from([Status.DELAYED, Status.QUEUED, Status.WAITING]), st.lists(ordinary(), max_size=60))
def test_no_sequence_of_events_leads_out_of_the_table(first: Status, sequence: list[Event]) -> None:
    """A run would end twice, start an attempt twice, or be in a state that nothing leads out of."""
    life = Life(run_in(first))
    for event in sequence:
        life.offer(event)
        if isinstance(event, Started) and life.run.status is Status.EXECUTING:
            life.offer(Finished(life.run.retries, Ending.RETRYABLE, NOW))
        if life.run.status in TERMINAL and life.run.status is not Status.DEAD_LETTER:
            ended = life.run
            life.offer(event)
            assert life.run == ended


@given(st.sampled_from([status for status in TERMINAL if status is not Status.DEAD_LETTER]), events())
def test_nothing_changes_a_run_that_has_ended(status: Status, event: Event) -> None:
    """A client that has read the end of a run would read another one later."""
    with pytest.raises(TransitionError):
        advance(run_in(status), event, NOW)


def walk(run: RunState, sequence: Iterable[Event]) -> list[str]:
    """Return the states through which events lead a run."""
    life = Life(run)
    states = []
    for event in sequence:
        life.offer(event)
        states.append(life.run.status.value)
    return states


ATTEMPT = (Claimed(NOW, b""), Started())


@pytest.mark.parametrize(
    ("ending", "last"),
    [
        (Finished(0, Ending.SUCCESS, NOW), "completed"),
        (Finished(0, Ending.FINAL, NOW), "dead_letter"),
        (Finished(0, Ending.RETRYABLE, NOW), "dead_letter"),
        (Finished(0, Ending.DEADLINE, NOW), "timed_out"),
        (Lost(NOW), "crashed"),
        (Faulted("x"), "system_failed"),
        (Canceled(), "canceled"),
    ],
)
def test_the_last_attempt_ends_the_run(ending: Event, last: str) -> None:
    """A run whose attempts are used up would go on, or be lost without an end."""
    assert walk(run_in(Status.QUEUED, max_attempts=1), [*ATTEMPT, ending]) == ["dequeued", "executing", last]


@pytest.mark.parametrize("ending", [Ending.RETRYABLE, Ending.DEADLINE, None])
def test_an_attempt_that_fails_is_followed_by_the_next_at_its_time(ending: Ending | None) -> None:
    """A retry would come at once, and an endpoint that is overloaded would get more requests instead of fewer."""
    run = run_in(Status.EXECUTING, attempt=2, retries=6, has_started=True)
    event = Lost(NOW + 7) if ending is None else Finished(6, ending, NOW + 7, error="503")
    changes = advance(run, event, NOW)
    expected = {"status": "queued", "attempt": 3, "retries": 7, "available_at": NOW + 7, "next_retry_at": NOW + 7}
    assert {name: changes[name] for name in expected} == expected
    assert changes["error"]
    assert changes["started_at"] is changes["heartbeat_at"] is changes["ticket_hash"] is None


def test_a_late_report_holds_while_the_next_attempt_has_not_started() -> None:
    """An endpoint that has done its work would be called again, because the report was late."""
    for status in (Status.QUEUED, Status.DEQUEUED, Status.DELAYED, Status.WAITING):
        lost = run_in(status, attempt=2, retries=4, has_started=True)
        assert advance(lost, Finished(3, Ending.SUCCESS, NOW), NOW)["status"] is Status.COMPLETED
        assert advance(lost, Finished(3, Ending.FINAL, NOW), NOW)["status"] is Status.DEAD_LETTER
        assert advance(lost, Finished(3, Ending.RETRYABLE, NOW), NOW)["status"] is status
        for retries in (2, 4, 5):
            with pytest.raises(TransitionError):
                advance(lost, Finished(retries, Ending.SUCCESS, NOW), NOW)
    started = run_in(Status.EXECUTING, attempt=2, retries=4, has_started=True)
    with pytest.raises(TransitionError):
        advance(started, Finished(3, Ending.SUCCESS, NOW), NOW)
    replayed = run_in(Status.QUEUED, attempt=1, retries=4, has_started=True)
    with pytest.raises(TransitionError):
        advance(replayed, Finished(3, Ending.SUCCESS, NOW), NOW)


def test_a_run_that_waits_for_a_retry_does_not_expire() -> None:
    """A job with a short time to start would lose its retries."""
    with pytest.raises(TransitionError, match="does not expire"):
        advance(run_in(Status.QUEUED, attempt=2, retries=1, has_started=True), Expired(), NOW)
    assert advance(run_in(Status.QUEUED), Expired(), NOW)["status"] is Status.EXPIRED


def test_a_claim_that_is_released_uses_no_attempt() -> None:
    """A broker that is away for a minute would use up the attempts of all runs."""
    changes = advance(run_in(Status.DEQUEUED), Released(NOW + 3), NOW)
    assert (changes["status"], changes["available_at"], "attempt" in changes) == ("queued", NOW + 3, False)


def test_a_replay_counts_attempts_anew_and_retries_on() -> None:
    """Celery's monitors would take the second first attempt for a message that came twice."""
    changes = advance(run_in(Status.DEAD_LETTER, attempt=3, retries=2), Replayed(is_met=True), NOW)
    expected = {"status": "queued", "attempt": 1, "retries": 3, "error": None, "finished_at": None}
    assert {name: changes[name] for name in expected} == expected
    assert advance(run_in(Status.DEAD_LETTER), Replayed(is_met=False), NOW)["status"] is Status.WAITING
