"""Runs that ended without a state and got no verdict from Celery: reported as failed by a process that can be sure.

`sys.exit()` in a task and, before Celery 5.7, the hard time limit of gevent end a run in this way. Everything here
runs seldom.
"""

from __future__ import annotations

import os
import threading
import time

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.identity import is_named_by
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.model import JobState
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.outcome import error_text, format_traceback
from sluice_agent.signals.reported import ReportedVerdicts
from sluice_agent.signals.run import Run

_VERDICT_TIMEOUT = 3.0  # seconds for Celery's verdict on a run that it stopped itself; it takes milliseconds

_NO_VERDICT = "Celery announced no verdict"
_KILLED_GREENLET = "GreenletExit"  # the error of a job whose greenlet a cold shutdown has killed


class MissingVerdicts:
    """Runs that may get no verdict, in the process that would receive it."""

    def __init__(self, sink: Sink, reported: ReportedVerdicts) -> None:
        self._sink = sink
        self._reported = reported
        self._waiting: list[tuple[float, Run, str, str, str]] = []
        self._lock = threading.RLock()  # re-entrant: a worker may be stopped from an OS signal handler
        self._is_timer_set = False
        self._on_timer = guarded(sink, self._report_overdue)

    def mark_reported(self, run: Run, state: JobState) -> None:
        """Record that `run` was reported in `state`. Celery may go on to count it as active."""
        self._reported.mark_reported(run.events.facts, state)

    def add(self, run: Run, raised: BaseException | None) -> None:
        """Add `run`, which was ended by `raised`, an exception that Celery does not handle."""
        if raised is None or run.has_ended:
            return
        ended = time.monotonic(), run, run.now(), error_text(raised), format_traceback(raised)
        if run.is_eager:
            self._report(*ended)
        # Only the process that received the job, and so named the run, receives every verdict.
        elif is_named_by(run.events.facts.run_name, os.getpid()):
            self._wait(ended)

    def report_all(self) -> None:
        """Report all runs at once: the worker is about to end, so no verdict will follow."""
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
        timer = threading.Timer(_VERDICT_TIMEOUT, self._on_timer)
        timer.daemon = True
        timer.start()

    def _report_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:
            overdue = [ended for ended in self._waiting if now - ended[0] >= _VERDICT_TIMEOUT]
            self._waiting = [ended for ended in self._waiting if now - ended[0] < _VERDICT_TIMEOUT]
            self._is_timer_set = bool(self._waiting)
        if self._is_timer_set:
            self._start_timer()
        for ended in overdue:
            self._report(*ended)

    def _report(
        self, ended_at: float, run: Run, when: str, error: str, stacktrace: str, *, by_worker: bool = False
    ) -> None:
        facts = run.events.facts
        if run.has_ended or self._reported.has_verdict(facts):
            return
        run.has_ended = True
        cut_off = by_worker and error == _KILLED_GREENLET
        transition = transitions.CUT_OFF if cut_off else transitions.FAILED
        self._reported.mark_reported(facts, transition.state)
        self._sink.emit(
            run.events.event(
                transition,
                when,
                previous=JobState.ACTIVE,
                started=run.started,
                error=None if cut_off else error,
                stacktrace=None if cut_off else stacktrace,
                runtime=ended_at - run.started_monotonic,
                reason=transitions.CUT_OFF_REASON if cut_off else _NO_VERDICT,
            )
        )
