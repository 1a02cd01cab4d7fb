"""One execution of a message: start, the requests, finish."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from uuid import uuid4

from sluice_agent.attempt_message import AttemptMessage
from sluice_agent.jobs.attempts.answers import Ending, ErrorClass, ending
from sluice_agent.jobs.attempts.exchange import perform
from sluice_agent.jobs.attempts.records import Outcome, Spec
from sluice_agent.jobs.worker.outcomes import Finish, OutcomeFiles
from sluice_agent.jobs.worker.server import AttemptServer, RefusedError, ServerAwayError
from sluice_agent.jobs.worker.under_way import UnderWay
from sluice_agent.log import warn_limited
from sluice_agent.outbound.deadline import Watchdog

_FIRST_WAIT = 0.5  # seconds between two requests to start, doubled each time
_LONGEST_WAIT = 10.0


class End(str, Enum):
    """How an execution ends, as its task does."""

    DROPPED = "dropped"
    """The attempt has not begun: the server has refused it, or was away until the end of the claim."""
    CANCELED = "canceled"
    COMPLETED = "completed"
    RETRIED = "retried"
    FAILED = "failed"
    TIMED_OUT = "timed_out"


_ENDS = {
    Ending.COMPLETED: End.COMPLETED,
    Ending.RETRIED: End.RETRIED,
    Ending.DEAD_LETTER: End.FAILED,
    Ending.TIMED_OUT: End.TIMED_OUT,
}
_STATUSES = {
    "completed": End.COMPLETED,
    "queued": End.RETRIED,
    "delayed": End.RETRIED,
    "dead_letter": End.FAILED,
    "failed": End.FAILED,
    "timed_out": End.TIMED_OUT,
    "canceled": End.CANCELED,
}
_STOPPED = Outcome(
    error_class=ErrorClass.TRANSIENT, error="the worker was stopped during the request", was_stopped=True
)


@dataclass(frozen=True, slots=True)
class Execution:
    """How an execution has ended, with the error of a failure."""

    end: End
    error: str = ""


class Executor:
    """Executes messages for one server. Thread-safe; `sleep` and `now` are passed in by tests."""

    def __init__(
        self,
        server: AttemptServer,
        outcomes: OutcomeFiles,
        under_way: UnderWay,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._server = server
        self._outcomes = outcomes
        self._under_way = under_way
        self._sleep = sleep
        self._now = now

    def execute(self, run_id: str, message: AttemptMessage, on_start: Callable[[], None]) -> Execution:
        """Execute a message. `on_start` is called once the server has agreed, before the endpoint is requested."""
        execution = uuid4().hex
        spec = self._start(run_id, message, execution)
        if spec is None:
            return Execution(End.DROPPED)
        outcome = _STOPPED
        try:
            on_start()
            with Watchdog(spec.timeout_secs) as watchdog, self._under_way.attempt(run_id, execution, watchdog):
                performed = perform(spec, watchdog, now=self._now)
            if self._under_way.is_canceled(execution):
                return Execution(End.CANCELED)
            if performed.error_class is None or watchdog.ended_by != "aborted":
                outcome = performed
        except BaseException:  # the process ends: the server must know at once
            self._finish(spec, execution, outcome)
            raise
        return Execution(self._finish(spec, execution, outcome), outcome.error or "")

    def _start(self, run_id: str, message: AttemptMessage, execution: str) -> Spec | None:
        """Ask until there is an answer, at most to the end of the claim: then the server gives the run to another."""
        wait = _FIRST_WAIT
        while True:
            try:
                return self._server.start(run_id, message.attempt, message.ticket, execution)
            except RefusedError as error:
                warn_limited("jobs-refused", "Run %s is not executed: %s", run_id, error)
                return None
            except ServerAwayError as error:
                remaining = message.until - self._now()
                if remaining <= 0:
                    warn_limited("jobs-away", "Run %s is not executed, its claim has ended: %s", run_id, error)
                    return None
                warn_limited("jobs-waits", "Run %s waits for its server: %s", run_id, error)
                self._sleep(min(wait * random.uniform(0.5, 1), remaining))  # noqa: S311 - no secret
                wait = min(wait * 2, _LONGEST_WAIT)

    def _finish(self, spec: Spec, execution: str, outcome: Outcome) -> End:
        """Send an outcome, or leave it in its file, and return how the attempt has ended."""
        finish = Finish(run_id=spec.run_id, attempt=spec.attempt, execution=execution, outcome=outcome)
        own = _ENDS[ending(outcome.error_class, spec.attempt, spec.max_attempts, ends_run=outcome.ends_run)]
        try:
            status = self._outcomes.deliver(finish, self._send)
        except (ServerAwayError, RefusedError) as error:
            warn_limited("jobs-server", "The outcome of run %s waits for its server: %s", spec.run_id, error)
            return own
        return own if status is None else _STATUSES.get(status, own)

    def _send(self, finish: Finish) -> str | None:
        return self._server.finish(finish.run_id, finish.attempt, finish.execution, finish.outcome)
