"""Ends of jobs that a worker's main process announces and can't store: Celery then raises, and fires no signal.

The result backend may be unreachable, or unable to store the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery.exceptions import TimeLimitExceeded, WorkerLostError
from celery.worker.request import Request

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.outcome import Outcome, Report, outcome_of
from sluice_agent.signals.patching import patch_method

_ENDED_BY_SIGNAL = range(-255, -191)  # the exit codes with which billiard ends a child that gets a signal
_FROM_OUTSIDE = (WorkerLostError, TimeLimitExceeded)  # the task process met all other exceptions, and reported them


def patch_backend_failures(sink: Sink, report: Report) -> None:
    """Report such ends by `report`."""

    def failed(request: Request, exc_info: Any, _: bool = True, return_ok: bool = False) -> None:
        raised = exc_info.exception
        raised = raised.exc if isinstance(raised, ExceptionWithTraceback) else raised
        by_task_process = return_ok or (isinstance(raised, Exception) and not isinstance(raised, _FROM_OUTSIDE))
        # Stopped by a signal: the code that sent it reports the reason.
        is_stopped = isinstance(raised, SystemExit) and raised.code in _ENDED_BY_SIGNAL
        if not by_task_process and not is_stopped:
            report(request, outcome_of(transitions.FAILED, raised, exc_info))

    def timed_out(request: Request, soft: bool, timeout: float) -> None:
        if not soft:
            report(request, outcome_of(transitions.FAILED, TimeLimitExceeded(timeout), None))

    def revoked(request: Request, _: str, terminated: bool, signum: Any, expired: bool) -> None:
        report(
            request,
            Outcome(transitions.REVOKED),
            signum=str(signum) if signum else None,
            terminated=terminated or None,
            expired=expired or None,
        )

    for method, handle in (("on_failure", failed), ("on_timeout", timed_out), ("_announce_revoked", revoked)):
        patch_method(
            Request,
            method,
            _on_exception(guarded(sink, handle)),
            without="an end that can't be stored, as the result backend is away, is not reported",
        )


def _on_exception(handle: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def announce(*args: Any, **kwargs: Any) -> Any:
            try:
                return original(*args, **kwargs)
            except Exception:
                handle(*args, **kwargs)
                raise

        return announce

    return around
