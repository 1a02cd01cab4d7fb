"""The end that a task stores itself: reported on every backend, and kept no longer than its run."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from celery import Celery
from celery.app.task import Context

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.missing_verdicts import MissingVerdicts
from sluice_agent.signals.progress import Progress
from sluice_agent.signals.recorder import Recorder
from sluice_agent.signals.run_names import RunNames
from sluice_agent.signals.task_process import TaskProcess
from tests.support.process import ROOT

app = Celery("stored", set_as_current=False)


class HoldingError(Exception):
    """Error that refers to the request that it was raised in, as a traceback does."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


@app.task(name="stored.count")
def count() -> None: ...


@pytest.mark.parametrize("state", ["SUCCESS", "IGNORED"])
def test_an_end_that_is_stored_after_a_run_keeps_no_request(state: str) -> None:
    """If a receiver of `task_postrun` stores the exception, a worker would grow with every job."""
    sink = Sink(emit=lambda _: None, drop=pytest.fail, connection_id="", is_ignored=lambda _: False, redact=None)
    recorder = Recorder(sink)
    task_process = TaskProcess(sink, recorder, RunNames(), MissingVerdicts(sink, recorder))
    progress = Progress(sink, recorder)
    request = Context(id="job", is_eager=True)
    request_ref = ref(request)
    count.request_stack.push(request)
    try:
        task_process.prerun(task=count)
        task_process.postrun(task=count, state=state)
        progress._state_updated(count, {"state": "FAILURE", "meta": HoldingError(request)})
    finally:
        count.request_stack.pop()
    del request
    gc.collect()
    assert request_ref() is None


STORES = """
    import sluice_agent
    states = []
    def install():
        sluice_agent.install(before_send=lambda event: states.append(event.job.state.value))
    if not IS_MADE_BEFORE:
        install()
    from celery import Celery
    from celery.exceptions import Ignore
    app = Celery("shop", broker="memory://", backend=BACKEND, set_as_current=False)
    if IS_MADE_BEFORE:
        app.backend
        install()
    def stores(self):
        self.backend.store_result(self.request.id, ValueError("boom"), "FAILURE")
        raise Ignore
    app.task(stores, name="shop.stores", bind=True).apply()
    print(states)
"""


@pytest.mark.parametrize("is_made_before", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("backend", ["cache+memory://", "rpc://", "disabled://"])
def test_a_stored_end_is_reported_on_every_backend(tmp_path: Path, backend: str, is_made_before: bool) -> None:
    """Some override `store_result`, imported after the agent or made before: their jobs would be completed."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")},
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": "11111111-1111-4111-8111-111111111111",
        "SLUICE_SHIP": "never",
        "SLUICE_STATE_DIR": str(tmp_path),
    }
    code = textwrap.dedent(STORES).replace("BACKEND", repr(backend)).replace("IS_MADE_BEFORE", str(is_made_before))
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ended.stdout == "['active', 'failed']\n", ended.stderr
