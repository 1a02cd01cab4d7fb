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

from sluice_agent.signals.current_runs import current_run
from tests.support.process import ROOT
from tests.unit.signals.observed import Observed, executing, task


class HoldingError(Exception):
    """Error that refers to the request that it was raised in, as a traceback does."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


@pytest.mark.parametrize("state", ["SUCCESS", "IGNORED"])
def test_an_end_that_is_stored_after_a_run_keeps_no_request(state: str) -> None:
    """If a receiver of `task_postrun` stores the exception, a worker would grow with every job."""
    observed = Observed()
    request_ref: list[Any] = []
    with executing(is_eager=True) as request:
        request_ref.append(ref(request))
        observed.task_process.prerun(task=task)
        run = current_run(task)
        assert run is not None
        observed.task_process.postrun(task=task, state=state)
        observed.recorder.record_stored_state(run, "FAILURE", HoldingError(request))
    del run
    del request
    gc.collect()
    assert request_ref[0]() is None


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
