"""The agent header on its way from the worker's main process to the thread or process that executes the job."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest
from celery.app.task import Context
from celery.concurrency.solo import TaskPool

from sluice_agent.signals.agent_header import PROCESS, RUN
from sluice_agent.signals.current_runs import agent_header_of, current_execution, end_execution
from sluice_agent.signals.header_handover import execute_with_header, patch_handover
from tests.unit.signals.observed import Observed, ProcessPool

AGENT_HEADER = {RUN: "w@h/1/a.0"}


class OwnPool(ProcessPool):
    """A pool of a third party, which overrides the method that takes a job."""

    def apply_async(self, target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Take a job."""
        return super().apply_async(target, args, kwargs, **options)


def seen_by_task(_: str, external_id: str, request: dict[str, Any], *__: Any) -> tuple[dict[str, Any], Any]:
    """Return what a task can see, in place of Celery's function: its request; and the agent header that is kept."""
    context = Context({**request, "id": external_id}, called_directly=False)
    return vars(context), agent_header_of(context)


@pytest.mark.parametrize("kind", [ProcessPool, OwnPool])
def test_the_header_reaches_the_process_and_no_task(kind: type[ProcessPool]) -> None:
    """Both processes must report one run; a task that copies its request would copy the header as well."""
    observed = Observed()
    patch_handover(observed.requests.of_request)
    pool = kind()
    request = observed.receive(**AGENT_HEADER)
    before = dict(request.request_dict)
    request._app.use_fast_trace_task = True  # as in a worker
    try:
        request.execute_using_pool(pool)
    finally:
        request._app.use_fast_trace_task = False
    assert pool.targets == [execute_with_header]
    target, handed_over, received_by, *args = pickle.loads(pickle.dumps(pool.executed[0]))
    assert (target, received_by) == (None, os.getpid()), "Celery's usual function is not named"
    fields, agent_header = execute_with_header(seen_by_task, handed_over, received_by + 1, *args)
    assert agent_header == {**AGENT_HEADER, PROCESS: str(os.getpid())}
    assert request.request_dict == before == args[2]
    assert not [name for name in (*fields, *fields["delivery_info"]) if "sluice" in name]
    assert current_execution() is None


def test_another_function_than_the_usual_one_is_executed() -> None:
    """A pool that spawns its processes, or a library's function, would find no task."""
    patch_handover(lambda _: AGENT_HEADER)
    pool = OwnPool()
    pool.apply_async(seen_by_task, ("task", "job", {}), accept_callback=Observed().receive().on_accepted)
    fields, agent_header = pool.targets[0](*pool.executed[0])
    assert (fields["id"], agent_header) == ("job", AGENT_HEADER), "in its own process"


def test_the_header_is_there_in_a_pool_of_this_process() -> None:
    """A worker of the pool `solo` would report its runs as another process's."""
    observed = Observed()
    patch_handover(observed.requests.of_request)
    request = observed.receive(**AGENT_HEADER)
    TaskPool(1).apply_async(print, (), accept_callback=request.on_accepted, callback=print)
    assert agent_header_of(request._context) == AGENT_HEADER
    end_execution()


def test_a_run_in_another_process_is_none_of_this_one() -> None:
    """What the main process of a worker publishes would be taken for what one of its tasks does."""
    observed = Observed()
    patch_handover(observed.requests.of_request)
    observed.receive(**AGENT_HEADER).on_accepted(os.getpid() + 1, 0.0)
    assert current_execution() is None


def test_what_is_not_a_job_passes_unchanged() -> None:
    """A library that uses the pool for calls of its own would fail."""
    patch_handover(lambda _: AGENT_HEADER)
    pool = OwnPool()
    for args in [(), (1, 2, 3), [1, 2, {}]]:
        pool.apply_async(print, args, accept_callback=Observed().receive().on_accepted)
    assert pool.executed == [[], (1, 2, 3), [1, 2, {}]]
    assert pool.targets == [print] * 3


def test_a_request_without_the_header_has_none() -> None:
    """A worker whose main process has no agent would give its jobs the header of others."""
    patch_handover(lambda _: {})
    pool = OwnPool()
    Observed().receive().execute_using_pool(pool)
    assert pool.targets != [execute_with_header]
    assert agent_header_of(Context(id="job")) == {}
