"""Random sequences of what engine, workers and clients do with a run, against a model of the contract's table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_agent.jobs.runs.runs import find_run, replay_dead_letter
from sluice_agent.jobs.runs.transitions import Canceled, Claimed, Lost, Released, TransitionError
from sluice_agent.jobs.status import TERMINAL, Status
from tests.support.examples import examples
from tests.support.job_attempts import FAILURE, SUCCESS, Attempts

MOST = 3
"""Attempts of a run."""

ENDED = {status.value for status in TERMINAL}
OUTCOMES: dict[str, dict[str, Any]] = {
    "success": SUCCESS,
    "failure": FAILURE,
    "timeout": {"error": "no answer", "error_class": "timeout"},
    "final": {"status_code": 404, "error": "404", "error_class": "client"},
}
_LAST = {"failure": "dead_letter", "timeout": "timed_out", "lost": "crashed"}


@dataclass
class Model:
    """What becomes of a run, by the contract alone."""

    status: str = "queued"
    attempt: int = 1
    tickets: set[str] = field(default_factory=set)
    execution: str = ""
    """That which has started the latest attempt."""
    started: int = 0
    """The number of the latest attempt that was started."""
    is_reported: bool = False
    is_lost: bool = False

    def start(self, ticket: str, execution: str, attempt: int) -> bool:
        """Return whether the server agrees."""
        if attempt != self.attempt:
            return False
        if self.status == "executing":
            return execution == self.execution
        if self.status != "dequeued" or ticket not in self.tickets:
            return False
        self.status, self.execution, self.started = "executing", execution, attempt
        self.is_reported = self.is_lost = False
        return True

    def finish(self, execution: str, attempt: int, outcome: str) -> str | None:
        """Return what the server answers."""
        if execution != self.execution or attempt != self.started:
            return None
        if self.is_reported:
            return None if self.status == "canceled" else self.status
        is_late = self.is_lost and self.status in ("queued", "dequeued")
        if self.status != "executing" and not is_late:
            return None
        self.is_reported = True
        if outcome in ("success", "final"):
            self.status = "completed" if outcome == "success" else "dead_letter"
        elif not is_late:
            self.next(outcome)
        return self.status

    def lose(self) -> None:
        """The worker is gone."""
        if self.status == "executing":
            self.is_lost = True
            self.next("lost")

    def next(self, outcome: str) -> None:
        """An attempt has not succeeded."""
        if self.attempt == MOST:
            self.status = _LAST[outcome]
        else:
            self.status, self.attempt, self.tickets = "queued", self.attempt + 1, set()


class Sequence:
    """A run, its model, and all who do something with it."""

    def __init__(self, attempts: Attempts) -> None:
        self.attempts = attempts
        self.run = attempts.trigger(attempts.job(max_attempts=MOST))
        self.model = Model()
        self.tickets = ["a ticket of nobody"]
        self.executions = ["e" * 32]
        self.lives: Counter[int] = Counter()
        """The requests that were sent, by the replay that they followed."""
        self.replays = 0

    def claim(self, *_: int) -> None:
        if self.model.status == "queued":
            self.tickets.append(self.attempts.claim(self.run))
            self.model.tickets.add(self.tickets[-1])
            self.model.status = "dequeued"

    def release(self, *_: int) -> None:
        self.offer(Released(self.attempts.store.moment))
        if self.model.status == "dequeued":
            self.model.status = "queued"

    def lose(self, *_: int) -> None:
        self.offer(Lost(self.attempts.store.moment))
        self.model.lose()

    def cancel(self, *_: int) -> None:
        self.offer(Canceled())
        if self.model.status not in ENDED:
            self.model.status = "canceled"

    def replay(self, *_: int) -> None:
        if self.model.status == "dead_letter":
            with self.attempts.store.writing() as writer:
                row = find_run(writer, self.run, None)
                job = self.attempts.read_job(row.job_id)
                replay_dead_letter(writer, job, row, self.attempts.store.moment)
            self.replays += 1
            self.model.status, self.model.attempt, self.model.tickets = "queued", 1, set()

    def start(self, which: int, name: int) -> None:
        """A message comes, any of those that were sent, or one that is repeated."""
        ticket = self.tickets[-1 - which % len(self.tickets)]
        is_new = name % 3 > 0
        execution = self.attempts.name() if is_new else self.executions[-1 - name % len(self.executions)]
        attempt = max(self.model.attempt - (which % 5 == 4), 1)
        was_under_way = self.model.status == "executing"
        spec = self.attempts.start(self.run, ticket, execution, attempt)
        assert (spec is not None) == self.model.start(ticket, execution, attempt)
        self.executions.append(execution)
        if spec is not None and not was_under_way:
            self.lives[self.replays] += 1

    def finish(self, which: int, outcome: int) -> None:
        """A report comes, of any execution."""
        execution = self.executions[-1 - which % len(self.executions)]
        attempt = self.model.started or 1
        name = list(OUTCOMES)[outcome % len(OUTCOMES)]
        answered = self.attempts.finish(self.run, execution, attempt, **OUTCOMES[name])
        assert answered == self.model.finish(execution, attempt, name)

    def work(self, which: int, outcome: int) -> None:
        """What happens most often: a message comes, and its report follows."""
        self.claim()
        self.start(0, 1)
        if which % 2:
            self.finish(0, outcome)

    def offer(self, event: Any) -> None:
        try:
            self.attempts.offer(self.run, event, MOST)
        except TransitionError:
            assert not isinstance(event, Claimed)

    def check(self) -> None:
        """Check what holds after each step."""
        row = self.attempts.row(self.run)
        assert (row.status, row.attempt) == (self.model.status, self.model.attempt)
        assert (row.finished_at is not None) == (row.status in ENDED)
        rows = self.attempts.attempts(self.run)
        assert len(rows) == sum(self.lives.values()), "each request is an attempt"
        assert all(count <= MOST for count in self.lives.values())
        under_way = [attempt for attempt in rows if attempt.finished_at is None]
        assert len(under_way) == (row.status == "executing"), "all others have an end"

    def drain(self) -> None:
        """Let the run go on until it ends: it always does."""
        for _ in range(2 * MOST):
            if self.model.status == "executing":
                self.lose()
            self.work(1, 1)
        assert self.model.status in ENDED


STEPS: list[Callable[..., None]] = [
    Sequence.claim,
    Sequence.release,
    Sequence.lose,
    Sequence.start,
    Sequence.start,
    Sequence.finish,
    Sequence.finish,
    Sequence.work,
    Sequence.work,
    Sequence.replay,
    Sequence.cancel,
]
STEP = st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 9), st.integers(0, 9))


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(STEP, max_size=25))
def test_no_sequence_loses_a_run_or_sends_it_twice(attempts: Attempts, steps: list[tuple[int, int, int]]) -> None:
    """A run would end twice, be sent more often than the job allows, or stay under way for ever."""
    sequence = Sequence(attempts)
    for number, first, second in steps:
        STEPS[number](sequence, first, second)
        sequence.check()
    sequence.drain()
    sequence.check()
    assert Status(attempts.row(sequence.run).status) in TERMINAL
