"""Jobs that are cut off: cancelled by Celery as it loses its broker or shuts down cold, or left behind as it ends.

No signal covers all of them. Before Celery 5.5 a cold shutdown ends the pool and announces nothing; from 5.6 on it does
not announce jobs that are not acknowledged yet. All of this runs in a worker's main process, and seldom.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from celery.worker import state as worker_state
from celery.worker.request import Request

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.model import JobState
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.missing_ends import MissingEnds
from sluice_agent.signals.outcome import Outcome, Report
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.worker_pool import WorkerPool

if TYPE_CHECKING:
    from billiard.pool import ApplyResult

_POOL_STOP_TIMEOUT = 5.0  # seconds; if a child dies with a lock that the others need, billiard's pool never stops


class ColdShutdown:
    """Reporter of `cancelled` for a job that will not run again, and of `queued` for one that returns to its queue."""

    def __init__(
        self,
        sink: Sink,
        report: Report,
        missing_ends: MissingEnds,
        pool: WorkerPool,
        pool_stop_timeout: float = _POOL_STOP_TIMEOUT,
    ) -> None:
        self._sink = sink
        self._report = report
        self._missing_ends = missing_ends
        self._pool = pool
        self._pool_stop_timeout = pool_stop_timeout
        self._cancelled_in_pool: dict[Request, tuple[ApplyResult, Transition]] = {}
        self._on_pool_stop_timeout = guarded(sink, self._report_dead_processes)

    def patch_cancellations(self) -> None:
        """Report each job that Celery cancels."""
        handle = guarded(self._sink, self._cancelled)

        def around(original: Callable[..., Any]) -> Callable[..., Any]:
            def announce_cancelled(request: Request, *args: Any, **kwargs: Any) -> Any:
                try:
                    return original(request, *args, **kwargs)
                finally:  # `original` writes to the result backend, which may be unreachable like the broker
                    emits_retry = kwargs.get("emit_retry", args[0] if args else True)
                    handle(request, transitions.CUT_OFF_BY_CANCEL if emits_retry else transitions.CUT_OFF)

            return announce_cancelled

        patch_method(
            Request,
            "_announce_cancelled",
            around,
            without="a job that is cut off as its worker shuts down, or loses its broker, stays active",
        )

    def shutting_down(self, **_: Any) -> None:
        """Report the jobs that a cold shutdown cut off by stopping the pool, unless they had just ended."""
        self._report_unless_ended(tuple(self._cancelled_in_pool))

    def worker_ended(self) -> None:
        """Report as cut off every job that this worker still counts as active and that no process runs any more.

        Jobs in greenlets end with their process; the worker waits for threads. No end follows of any other job.
        """
        self.shutting_down()
        for request in tuple(worker_state.active_requests):
            if self._pool.in_greenlets or not _is_alive(request.worker_pid):
                self._report_cut_off(request, transitions.CUT_OFF)
        for stopped in self._missing_ends.take_all():
            self._missing_ends.report(stopped)

    def _cancelled(self, request: Request, transition: Transition) -> None:
        from billiard.pool import ApplyResult  # noqa: PLC0415 - 2 ms, which a process without a pool does not need

        handle = request._apply_result
        result = handle and handle()
        is_in_pool_process = isinstance(result, ApplyResult)
        may_have_lost_broker = request.app.conf.worker_cancel_long_running_tasks_on_connection_loss
        if not request.acknowledged and (is_in_pool_process or may_have_lost_broker):
            self._report_cut_off(request, transition)
        elif is_in_pool_process:
            # The pool process may have ended the job and sent the result, unread so far: decide when the pool is gone.
            if not self._cancelled_in_pool:
                self._start_timer()
            self._cancelled_in_pool[request] = result, transition
        # Else it is a greenlet in a cold shutdown: Celery kills it, then acknowledges its job, see `MissingEnds`.

    def _start_timer(self) -> None:
        timer = threading.Timer(self._pool_stop_timeout, self._on_pool_stop_timeout)
        timer.daemon = True
        timer.start()

    def _report_dead_processes(self) -> None:
        """Report the jobs of dead pool processes as cut off: the pool should have stopped, and may never do so."""
        requests = tuple(self._cancelled_in_pool)
        self._report_unless_ended([request for request in requests if not _is_alive(request.worker_pid)])
        if self._cancelled_in_pool:
            self._start_timer()

    def _report_unless_ended(self, requests: Iterable[Request]) -> None:
        """Report `requests` as cut off once: a stopped pool and the timer may both come to this at the same moment."""
        for request in requests:
            cancelled = self._cancelled_in_pool.pop(request, None)
            if cancelled is None:
                continue
            result, transition = cancelled
            if not (result.ready() and result.successful()):
                self._report_cut_off(request, transition)

    def _report_cut_off(self, request: Request, transition: Transition) -> None:
        if request.acknowledged:
            self._report(request, Outcome(transition), reason=transitions.CUT_OFF_REASON)
        else:
            self._report(request, Outcome(transition._replace(state=JobState.QUEUED)), requeued=True)


def _is_alive(pid: int | None) -> bool:
    """Return whether the process that runs a job, this one or its child, is alive; a zombie is not."""
    if not pid or pid == os.getpid():
        return True
    try:
        if hasattr(os, "waitid"):  # macOS has it since Python 3.13
            return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        os.kill(pid, 0)
    except (ChildProcessError, ProcessLookupError):
        return False
    except OSError:
        return True
    return True
