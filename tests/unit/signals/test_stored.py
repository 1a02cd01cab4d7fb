"""What a task stores for itself is kept no longer than its run."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import pytest
from celery import Celery
from celery.app.task import Context

from sluice_agent.signals.execution import Execution
from sluice_agent.signals.progress import Progress
from sluice_agent.signals.run import RunNames
from sluice_agent.signals.silence import Silence
from sluice_agent.signals.told import Told
from sluice_agent.signals.watch import Watch

app = Celery("stored", set_as_current=False)


class HoldingError(Exception):
    """Holds the request that it was raised in, as a traceback does."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


@app.task(name="stored.count")
def count() -> None: ...


@pytest.mark.parametrize("state", ["SUCCESS", "IGNORED"])
def test_what_is_stored_as_a_run_is_over_keeps_no_request(state: str) -> None:
    """A receiver of `task_postrun` that stores the exception: a worker would grow with each of its jobs."""
    watch = Watch(emit=lambda _: None, lost=pytest.fail, connection_id="", is_ignored=lambda _: False, redact=None)
    execution = Execution(watch, Silence(watch, Told()), RunNames())
    progress = Progress(watch, execution)
    request = Context(id="job", is_eager=True)
    gone = ref(request)
    count.request_stack.push(request)
    try:
        execution.prerun(task=count)
        execution.postrun(task=count, state=state)
        progress._state_updated(count, {"state": "FAILURE", "meta": HoldingError(request)})
    finally:
        count.request_stack.pop()
    del request
    gc.collect()
    assert gone() is None
