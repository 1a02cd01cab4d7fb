"""Runs whose end Celery does not announce: reported by a process that can be sure.

`sys.exit()` in a task and, before Celery 5.7, the hard time limit of gevent end a run in this way: it has failed. So
does a cold shutdown, which kills greenlets, and may then take any time: they are cut off. Everything here runs seldom.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.identity import is_named_by
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.outcome import Outcome, error_text, format_traceback
from sluice_agent.signals.recorder import Recorder
from sluice_agent.signals.run import Run

_KILLED_GREENLET = "GreenletExit"  # gevent and eventlet raise it in a greenlet that is killed, and nothing else
_END_TIMEOUT = 3.0  # seconds until Celery announces the end of a run that it stopped itself; it takes milliseconds


@dataclass(frozen=True, slots=True)
class StoppedRun:
    """A run whose end may not be announced, and the end that it then has."""

    run: Run
    stopped_monotonic: float
    when: str
    outcome: Outcome
    reason: str


class MissingEnds:
    """Runs whose end may not be announced, in the process that would receive that."""

    def __init__(self, sink: Sink, recorder: Recorder, timeout: float = _END_TIMEOUT) -> None:
        self._recorder = recorder
        self._timeout = timeout
        self._waiting: list[StoppedRun] = []
        self._lock = threading.RLock()  # re-entrant: a worker may be stopped from an OS signal handler
        self._is_timer_set = False
        self._on_timer = guarded(sink, self._report_overdue)

    def add(self, run: Run, raised: BaseException | None) -> None:
        """Add `run`, which was ended by `raised`, an exception that Celery does not handle."""
        if raised is None or run.has_ended:
            return
        outcome, reason = Outcome(transitions.CUT_OFF), transitions.CUT_OFF_REASON
        if run.is_eager or error_text(raised) != _KILLED_GREENLET:
            outcome = Outcome(transitions.FAILED, error_text(raised), format_traceback(raised))
            reason = "Celery announced no end"
        stopped = StoppedRun(run, time.monotonic(), run.now(), outcome, reason)
        if run.is_eager:
            self.report(stopped)
        # Only the process that received the job, and so named the run, receives every end.
        elif is_named_by(run.events.run_name, os.getpid()):
            self._wait(stopped)

    def report(self, stopped: StoppedRun) -> None:
        """Report the end of a run, unless one is reported."""
        runtime = stopped.stopped_monotonic - stopped.run.started_monotonic
        self._recorder.record_missing_end(
            stopped.run, stopped.outcome, when=stopped.when, runtime=runtime, reason=stopped.reason
        )

    def take_all(self) -> list[StoppedRun]:
        """Remove and return all runs, for the caller to report: the worker ends, so no end will follow."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        return waiting

    def _wait(self, stopped: StoppedRun) -> None:
        with self._lock:
            self._waiting.append(stopped)
            if self._is_timer_set:
                return
            self._is_timer_set = True
        self._start_timer()

    def _start_timer(self) -> None:
        timer = threading.Timer(self._timeout, self._on_timer)
        timer.daemon = True
        timer.start()

    def _report_overdue(self) -> None:
        stopped_until = time.monotonic() - self._timeout
        with self._lock:
            overdue = [stopped for stopped in self._waiting if stopped.stopped_monotonic <= stopped_until]
            self._waiting = [stopped for stopped in self._waiting if stopped.stopped_monotonic > stopped_until]
            self._is_timer_set = bool(self._waiting)
        if self._is_timer_set:
            self._start_timer()
        for stopped in overdue:
            self.report(stopped)
