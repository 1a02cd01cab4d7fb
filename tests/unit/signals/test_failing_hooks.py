"""Exceptions that a hook of a task, or the result backend, raises after its failure is reported."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Task
from celery.app.trace import TraceInfo

from sluice_agent.signals.failing_hooks import patch_failing_hooks
from tests.unit.signals.observed import Observed, app, executing


class FailingHook(Task):
    """A task whose `on_failure` fails."""

    def on_failure(self, *_: Any) -> None:
        """Fail, as if the mail server was away."""
        raise ConnectionError("mail")


@app.task(name="observed.hook", base=FailingHook)
def hooked() -> None: ...


@pytest.mark.parametrize("is_reported", [True, False])
def test_what_a_hook_raises_is_no_other_failure(is_reported: bool) -> None:
    """The main process takes it for the job's: a second failure replaces the cause. Unless there is no first."""
    observed, failure = Observed(), ValueError("boom")
    patch_failing_hooks(observed.sink, observed.recorder)
    if is_reported:
        observed.recorder.mark(failure)
    with executing(hooked) as context, pytest.raises(ConnectionError) as caught:  # noqa: PT012 - in Celery's `except`
        try:
            raise failure
        except ValueError:
            TraceInfo("FAILURE", failure).handle_failure(hooked, context, store_errors=False)
    assert observed.recorder.is_recorded(caught.value) is is_reported
    assert observed.dropped == []
