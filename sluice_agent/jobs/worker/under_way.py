"""The attempts that this process executes, and its one thread beside them.

The thread reports every ten seconds that the attempts are alive, with those whose outcomes wait for a server which was
away; it aborts those that are canceled, and delivers the outcomes. It is started with the first attempt, and in a
forked child with the child's own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from sluice_agent.jobs.worker.outcomes import Finish, OutcomeFiles
from sluice_agent.jobs.worker.server import AttemptServer, RefusedError, ServerAwayError
from sluice_agent.log import warn_limited
from sluice_agent.outbound.deadline import Watchdog

BEAT_SECONDS = 10.0
_MOST = 1_000  # executions of one request


class UnderWay:
    """The attempts under way. `beat_seconds` is how often they are reported."""

    def __init__(self, server: AttemptServer, outcomes: OutcomeFiles, beat_seconds: float = BEAT_SECONDS) -> None:
        self._server = server
        self._outcomes = outcomes
        self._beat_seconds = beat_seconds
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        """Begin with no attempts: a forked child executes none of its parent's, and has none of its threads."""
        self._lock = threading.RLock()  # a signal handler may stop what its own thread has interrupted
        self._attempts: dict[str, tuple[str, Watchdog]] = {}  # by execution: the run, and what ends the requests
        self._canceled: set[str] = set()
        self._thread: threading.Thread | None = None

    @contextmanager
    def attempt(self, run_id: str, execution: str, watchdog: Watchdog) -> Iterator[None]:
        """Report the attempt of a run as alive, within the context, and abort `watchdog` if the run is canceled."""
        with self._lock:
            self._attempts[execution] = run_id, watchdog
        self.start()
        try:
            yield
        finally:
            with self._lock:
                self._attempts.pop(execution, None)

    def is_canceled(self, execution: str) -> bool:
        """Return whether the run of an attempt that has ended was canceled; it is forgotten by that."""
        with self._lock:
            is_canceled = execution in self._canceled
            self._canceled.discard(execution)
            return is_canceled

    def stop(self) -> None:
        """Abort all attempts: the worker ends, and does not wait for their answers."""
        with self._lock:
            watchdogs = [watchdog for _, watchdog in self._attempts.values()]
        for watchdog in watchdogs:
            watchdog.abort()

    def start(self) -> None:
        """Start the thread of this process, if it is not running."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, daemon=True, name="sluice-attempts")
                self._thread.start()

    def _run(self) -> None:
        while True:
            due = time.monotonic() + self._beat_seconds  # also while thousands of outcomes wait
            try:
                unwanted = self._beat()
                self._outcomes.deliver_waiting(self._deliver, lambda: time.monotonic() < due, unwanted)  # noqa: B023
            except (ServerAwayError, RefusedError) as error:
                warn_limited("jobs-server", "Attempts and their outcomes can't be reported now: %s", error)
            except Exception as error:  # noqa: BLE001 - the thread must go on, or the runs are taken for lost
                warn_limited("jobs-thread", "Attempts can't be reported: %s: %s", type(error).__name__, error)
            time.sleep(max(due - time.monotonic(), 0))

    def _beat(self) -> set[str]:
        """Report attempts, and those whose outcomes wait: without it they would be taken for lost, and sent again.
        Return the executions that the server does not want any more."""
        executions = self._outcomes.executions()
        with self._lock:
            executions.update({execution: run_id for execution, (run_id, _) in self._attempts.items()})
        remaining = iter(executions.items())
        unwanted = set[str]()
        while some := dict(islice(remaining, _MOST)):
            unwanted.update(self._server.beat(some))
        for execution in unwanted:
            self._cancel(execution)
        return unwanted

    def _cancel(self, execution: str) -> None:
        with self._lock:
            _, watchdog = self._attempts.get(execution, (None, None))
            if watchdog is not None:
                self._canceled.add(execution)
        if watchdog is not None:
            watchdog.abort()

    def _deliver(self, finish: Finish) -> str | None:
        return self._server.finish(finish.run_id, finish.attempt, finish.execution, finish.outcome)
