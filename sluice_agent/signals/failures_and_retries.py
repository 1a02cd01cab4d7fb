"""Failures and retries: Celery announces them in the process that executes the run, or in the worker's main process.

Both handlers run in either. A run that is executed here comes first; what the main process alone knows comes second.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Task
from celery.exceptions import Retry

from sluice_agent.lifecycle import transitions
from sluice_agent.signals.current_runs import current_run, unstored_run
from sluice_agent.signals.outcome import outcome_of
from sluice_agent.signals.received_runs import ReceivedRuns
from sluice_agent.signals.recorder import Recorder


class FailuresAndRetries:
    """Handlers of `task_failure` and `task_retry`."""

    def __init__(self, recorder: Recorder, received_runs: ReceivedRuns) -> None:
        self._recorder = recorder
        self._received_runs = received_runs

    def failure(self, sender: Task, task_id: str, exception: BaseException, einfo: Any = None, **_: Any) -> None:
        """Record `failed`."""
        if self._recorder.is_recorded(exception):
            return
        raised = sys.exc_info()[1] or exception  # `exception` is a copy if the original can't be pickled
        run = current_run(sender, task_id) or unstored_run(task_id, raised)
        if run is not None:
            outcome = outcome_of(transitions.FAILED, raised, einfo)
            self._recorder.record_end(run, outcome)
            return
        received_run = self._received_runs.of_job(sender, task_id)
        if received_run is not None:
            outcome = outcome_of(transitions.FAILED, exception, einfo)
            self._recorder.record_announced_end(received_run, outcome)

    def retry(self, sender: Task, request: Any, reason: Retry | None = None, einfo: Any = None, **_: Any) -> None:
        """Record `retrying`. No reason: Celery has cancelled the run, see `ColdShutdown`."""
        if reason is None:
            return
        outcome = outcome_of(transitions.RETRIED, reason, einfo)
        run = current_run(sender, request.id)
        if run is not None:
            self._recorder.record_retry(run, outcome)
            return
        received_run = self._received_runs.of_context(sender, request)
        if received_run is not None:
            self._recorder.record_announced_end(received_run, outcome)
