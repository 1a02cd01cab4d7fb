"""The carrier where there is no broker: threads of this process, which execute what a worker's task does.

Its server is this process itself, without HTTP. Outcomes have files of their own here too: the database may be away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as WaitTimeoutError
from pathlib import Path
from typing import TypeVar

from sluice_agent.attempt_message import AttemptMessage
from sluice_agent.jobs.attempts.records import Outcome, Spec
from sluice_agent.jobs.engine.claim import Claim
from sluice_agent.jobs.execution.attempts import AttemptChanges
from sluice_agent.jobs.execution.requests import FinishRequest, StartRequest
from sluice_agent.jobs.worker.executor import Executor
from sluice_agent.jobs.worker.outcomes import OutcomeFiles
from sluice_agent.jobs.worker.server import ServerAwayError
from sluice_agent.jobs.worker.under_way import UnderWay
from sluice_agent.log import log_failure
from sluice_agent.server.store.database import DATABASE_ERRORS, reason_of
from sluice_agent.transport.journal.directory import open_directory

_Result = TypeVar("_Result")
_SECOND = 1_000_000  # microseconds
_ANSWER_SECONDS = 30.0  # for which an attempt waits for the database
_CLOSE_SECONDS = 5.0  # that attempts have after a signal, and again to report that they were stopped


class OwnServer:
    """What a worker asks of its server, asked in the server's own process."""

    def __init__(self, attempts: AttemptChanges) -> None:
        self._attempts = attempts

    def start(self, run_id: str, attempt: int, ticket: str, execution: str) -> Spec | None:
        """Return the requests of an attempt; None if it must not begin. Raises `ServerAwayError`."""
        wanted = StartRequest(attempt=attempt, ticket=ticket, execution=execution)
        return _made(lambda: self._attempts.start(run_id, wanted))

    def finish(self, run_id: str, attempt: int, execution: str, outcome: Outcome) -> str | None:
        """Return the status of the run after an attempt; None if it had ended. Raises `ServerAwayError`."""
        report = FinishRequest(attempt=attempt, execution=execution, outcome=outcome)
        return _made(lambda: self._attempts.finish(run_id, report))

    def beat(self, executions: Mapping[str, str]) -> list[str]:
        """Report executions as going on, and return those that are canceled. Raises `ServerAwayError`."""
        return _made(lambda: self._attempts.beat(executions))


def _made(submit: Callable[[], Future[_Result]]) -> _Result:
    """Return the result of a change once it is made. Raises `ServerAwayError`."""
    try:
        return submit().result(_ANSWER_SECONDS)
    except WaitTimeoutError:
        raise ServerAwayError("the database does not answer") from None
    except DATABASE_ERRORS as error:
        raise ServerAwayError(f"the database can't be used ({reason_of(error)})") from error


class PoolCarrier:
    """Executes at most `slots` attempts at a time, in threads that begin with the first one.

    `state_dir` is where outcomes wait, as for a worker; `token_secret` is that of the database.
    """

    outlives_process = False

    def __init__(self, attempts: AttemptChanges, token_secret: bytes, slots: int, state_dir: Path | None) -> None:
        self.slots = slots
        name = hashlib.sha256(token_secret).hexdigest()[:16]  # one directory for each database
        outcomes = OutcomeFiles(open_directory(state_dir, f"outcomes-{name}"))
        server = OwnServer(attempts)
        self._outcomes = outcomes
        self._under_way = UnderWay(server, outcomes)
        self._executor = Executor(server, outcomes, self._under_way)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="jobs attempt")
        self._futures: set[Future[None]] = set()

    def send(self, claims: Sequence[Claim]) -> list[str]:
        """Have the claims executed."""
        for claim in claims:
            message = AttemptMessage(claim.attempt, claim.ticket, claim.until / _SECOND)
            future = self._threads.submit(self._execute, claim.run_id, message)
            self._futures.add(future)
            future.add_done_callback(self._futures.discard)
        return [claim.run_id for claim in claims]

    def watch(self, *, is_executing: bool) -> None:
        """Do nothing: the threads are always there."""

    def is_empty(self) -> bool:
        """Return whether no claim waits for a thread."""
        return len(self._futures) <= self.slots

    def start(self) -> None:
        """Deliver outcomes that an earlier process has left."""
        if self._outcomes.waiting():
            self._under_way.start()

    def close(self) -> None:
        """Wait a little for attempts that are under way, then end them: they are reported as stopped."""
        for future in tuple(self._futures):
            future.cancel()
        wait(tuple(self._futures), _CLOSE_SECONDS)
        self._under_way.stop()
        wait(tuple(self._futures), _CLOSE_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _execute(self, run_id: str, message: AttemptMessage) -> None:
        try:
            self._executor.execute(run_id, message, lambda: None)
        except Exception as error:  # noqa: BLE001 - the thread is for other runs as well
            log_failure(error, "The attempt of run %s failed in this server", run_id)
