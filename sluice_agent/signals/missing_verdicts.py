"""Runs that ended without a state, and of which Celery has said no more: told as failed, by whoever can be sure.

`sys.exit()` in a task and, before Celery 5.7, the hard time limit of gevent end a run in this way. Everything here
runs seldom.
"""

from __future__ import annotations

import os
import threading
import time

from sluice_agent.identity import is_named_by
from sluice_agent.model import JobState
from sluice_agent.signals.cold_shutdown import REASON as CUT_OFF
from sluice_agent.signals.context import Sink, guarded
from sluice_agent.signals.outcome import error_text, format_traceback
from sluice_agent.signals.reported import ReportedVerdicts
from sluice_agent.signals.run import Run

PATIENCE = 3.0  # seconds in which a verdict of Celery's follows a run that it stopped itself; it takes milliseconds

_REASON = "Celery has told no verdict"
_KILLED_GREENLET = "GreenletExit"  # the error of a job whose greenlet a cold shutdown has killed


class MissingVerdicts:
    """Keeps the runs that may have ended in silence, in the process that would hear the verdict."""

    def __init__(self, sink: Sink, reported: ReportedVerdicts) -> None:
        self._sink = sink
        self._reported = reported
        self._waiting: list[tuple[float, Run, str, str, str]] = []
        self._lock = threading.RLock()  # re-entrant: a worker may be stopped from an OS signal handler
        self._is_timer_set = False
        self._on_timer = guarded(sink, self._report_overdue)

    def mark_reported(self, run: Run, state: JobState) -> None:
        """`run` is reported to have failed, or to be retried. Celery may go on to count it as active."""
        self._reported.mark_reported(run.events.facts, state)

    def add(self, run: Run, raised: BaseException | None) -> None:
        """`run` has ended by `raised`, which is no exception that Celery handles."""
        if raised is None or run.has_ended:
            return
        ended = time.monotonic(), run, run.now(), error_text(raised), format_traceback(raised)
        if run.is_eager:
            self._report(*ended)
        elif is_named_by(
            run.events.facts.run, os.getpid()
        ):  # the process that received the job: it hears every verdict
            self._wait(ended)

    def report_all(self) -> None:
        """The worker is about to end, so no verdict will follow."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for ended in waiting:
            self._report(*ended, by_worker=True)

    def _wait(self, ended: tuple[float, Run, str, str, str]) -> None:
        with self._lock:
            self._waiting.append(ended)
            if self._is_timer_set:
                return
            self._is_timer_set = True
        self._start_timer()

    def _start_timer(self) -> None:
        timer = threading.Timer(PATIENCE, self._on_timer)
        timer.daemon = True
        timer.start()

    def _report_overdue(self) -> None:
        clock = time.monotonic()
        with self._lock:
            overdue = [ended for ended in self._waiting if clock - ended[0] >= PATIENCE]
            self._waiting = [ended for ended in self._waiting if clock - ended[0] < PATIENCE]
            self._is_timer_set = bool(self._waiting)
        if self._is_timer_set:
            self._start_timer()
        for ended in overdue:
            self._report(*ended)

    def _report(self, at: float, run: Run, when: str, error: str, stacktrace: str, *, by_worker: bool = False) -> None:
        facts = run.events.facts
        if run.has_ended or self._reported.has_verdict(facts):
            return
        run.has_ended = True
        cut_off = by_worker and error == _KILLED_GREENLET
        state = JobState.CANCELLED if cut_off else JobState.FAILED
        self._reported.mark_reported(facts, state)
        self._sink.emit(
            run.events.event(
                state,
                "STARTED" if cut_off else "FAILURE",
                when,
                previous=JobState.ACTIVE,
                started=run.started,
                error=None if cut_off else error,
                stacktrace=None if cut_off else stacktrace,
                runtime=at - run.started_monotonic,
                reason=CUT_OFF if cut_off else _REASON,
            )
        )
