"""The end that a task stores itself: reported on every backend, and kept no longer than its run."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import textwrap
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
    import json, os, sys
    import kombu.transport.memory, sluice_agent.signals  # once: children need not
    from celery import Celery
    from celery.exceptions import Ignore
    assert not {"celery.backends.cache", "celery.backends.rpc"} & {*sys.modules}

    def run(backend, is_made_before):
        states = []
        def install():
            sluice_agent.install(before_send=lambda event: states.append(event.job.state.value))
        if not is_made_before:
            install()
        app = Celery("shop", broker="memory://", backend=backend, set_as_current=False)
        if is_made_before:
            app.backend
            install()
        def stores(self):
            self.backend.store_result(self.request.id, ValueError("boom"), "FAILURE")
            raise Ignore
        app.task(stores, name="shop.stores", bind=True).apply()
        print(json.dumps([backend, is_made_before, states]), flush=True)

    for case in json.loads(sys.argv[1]):
        child = os.fork()
        if not child:
            run(*case)
            os._exit(0)
        os.waitpid(child, 0)
"""
BACKENDS = ("cache+memory://", "rpc://", "disabled://")
States = dict[tuple[str, bool], list[str]]


@pytest.fixture(scope="module")
def states_of_stored(tmp_path_factory: pytest.TempPathFactory) -> States:
    """The reported states by backend and whether it was made before the agent, each from a child of one process."""
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")},
        "SLUICE_API_KEY": "sk_test",
        "SLUICE_CONNECTION_ID": "11111111-1111-4111-8111-111111111111",
        "SLUICE_SHIP": "never",
        "SLUICE_STATE_DIR": str(tmp_path_factory.mktemp("state")),
    }
    cases = [(backend, is_made_before) for backend in BACKENDS for is_made_before in (False, True)]
    command = [sys.executable, "-c", textwrap.dedent(STORES), json.dumps(cases)]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    lines = map(json.loads, ended.stdout.splitlines())
    assert not ended.returncode, ended.stderr
    return {(backend, is_made_before): states for backend, is_made_before, states in lines}


@pytest.mark.parametrize("is_made_before", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stored_end_is_reported_on_every_backend(
    states_of_stored: States, backend: str, is_made_before: bool
) -> None:
    """Some override `store_result`, imported after the agent or made before: their jobs would be completed."""
    assert states_of_stored[backend, is_made_before] == ["active", "failed"]
