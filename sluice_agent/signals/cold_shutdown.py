"""Jobs that are cut off: cancelled by Celery as it loses its broker or shuts down cold, or left behind as it ends.

No signal tells all of them. Before Celery 5.5 a cold shutdown ends the pool without a word; from 5.6 on it is silent of
jobs that are not acknowledged yet. All of this runs in a worker's main process, and seldom.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from billiard.pool import ApplyResult
from celery.worker import state as worker_state
from celery.worker.request import Request

from sluice_agent.model import JobState
from sluice_agent.signals.context import Sink, guarded
from sluice_agent.signals.outcome import Outcome
from sluice_agent.signals.patching import patch_method

REASON = "cut off by a cold shutdown"

_POOL_STOPS_WITHIN = 5.0  # seconds; where a child dies with a lock that the others need, billiard's pool never does


class ColdShutdown:
    """Tells `cancelled` of a job that nobody will ever run again, and `queued` of one that goes back to its queue.

    `report` is given a worker's request, an outcome and extensions, and tells each outcome of an execution once.
    """

    def __init__(self, sink: Sink, report: Callable[..., None]) -> None:
        self._sink = sink
        self._report = report
        self._cancelled_in_pool: dict[Request, tuple[ApplyResult, str]] = {}
        self._check_hung_pool = guarded(sink, self._pool_hangs)

    def patch_cancellations(self) -> None:
        """Hear each job that Celery cancels."""
        handle = guarded(self._sink, self._cancelled)

        def around(original: Callable[..., Any]) -> Callable[..., Any]:
            def announce_cancelled(request: Request, *args: Any, **kwargs: Any) -> Any:
                try:
                    return original(request, *args, **kwargs)
                finally:  # it writes to the result backend, which may be away with the broker
                    emits_retry = kwargs.get("emit_retry", args[0] if args else True)
                    handle(request, "RETRY" if emits_retry else "STARTED")

            return announce_cancelled

        patch_method(
            Request,
            "_announce_cancelled",
            around,
            without="a job that is cut off as its worker shuts down, or loses its broker, stays active",
        )

    def shutting_down(self, **_: Any) -> None:
        """A cold shutdown has stopped its pool: tell `cancelled` of what it cut off, unless that had just ended."""
        self._report_unless_ended(tuple(self._cancelled_in_pool))

    def worker_ended(self, *, in_greenlets: bool) -> None:
        """Whatever this worker still calls active, and nobody runs any more, has been cut off.

        Jobs that run `in_greenlets` end with their process; threads are waited for.
        """
        self.shutting_down()
        for request in tuple(worker_state.active_requests):
            if in_greenlets or not _is_alive(request.worker_pid):
                self._report_cut_off(request, "STARTED")

    def _cancelled(self, request: Request, celery_state: str) -> None:
        handle = request._apply_result
        result = handle and handle()
        in_process_of_its_own = isinstance(result, ApplyResult)
        may_have_lost_broker = request.app.conf.worker_cancel_long_running_tasks_on_connection_loss
        if not request.acknowledged and (in_process_of_its_own or may_have_lost_broker):
            self._report_cut_off(request, celery_state)
        elif in_process_of_its_own:
            # It may have ended the job, and told so, unheard by this process: see when the pool has stopped.
            if not self._cancelled_in_pool:
                self._look_later()
            self._cancelled_in_pool[request] = result, celery_state
        # Else it is a greenlet in a cold shutdown: Celery acknowledges it when it has killed it, see `MissingVerdicts`.

    def _look_later(self) -> None:
        timer = threading.Timer(_POOL_STOPS_WITHIN, self._check_hung_pool)
        timer.daemon = True
        timer.start()

    def _pool_hangs(self) -> None:
        """The pool should have stopped, and may never do so: what its dead processes ran has been cut off."""
        self._report_unless_ended([each for each in tuple(self._cancelled_in_pool) if not _is_alive(each.worker_pid)])
        if self._cancelled_in_pool:
            self._look_later()

    def _report_unless_ended(self, requests: Iterable[Request]) -> None:
        """The worker may stop its pool at the very moment at which its time is over: whoever comes first tells."""
        for request in requests:
            cancelled = self._cancelled_in_pool.pop(request, None)
            if cancelled is None:
                continue
            result, celery_state = cancelled
            if not (result.ready() and result.successful()):
                self._report_cut_off(request, celery_state)

    def _report_cut_off(self, request: Request, celery_state: str) -> None:
        if request.acknowledged:
            self._report(request, Outcome(JobState.CANCELLED, celery_state), reason=REASON)
        else:
            self._report(request, Outcome(JobState.QUEUED, celery_state), requeued=True)


def _is_alive(pid: int | None) -> bool:
    """Whether the process that runs a job, this one or a child of it, lives; one that nobody has buried does not."""
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
