"""The agent header on its way from the worker's main process to the process that executes the job."""

from __future__ import annotations

from typing import Any

import pytest
from celery.app.task import Context
from celery.concurrency.base import BasePool

from sluice_agent.signals.agent_header import HEADER, RUN, pop_header
from sluice_agent.signals.current_runs import agent_header_of
from sluice_agent.signals.header_handover import patch_handover
from tests.unit.signals.observed import Observed, ProcessPool

AGENT_HEADER = {RUN: "w@h/1/a.0"}


class OwnPool(ProcessPool):
    """A pool of a third party, which overrides the method that takes a job."""

    def apply_async(self, target: Any, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Take a job."""
        return super().apply_async(target, args, kwargs, **options)


@pytest.mark.parametrize("kind", [ProcessPool, OwnPool])
def test_the_header_reaches_the_process_and_no_task(kind: type[ProcessPool]) -> None:
    """Both processes must report one run; a task that copies its request would copy the header as well."""
    observed = Observed()
    patch_handover(observed.requests.of_request)
    pool = kind()
    request = observed.receive(**AGENT_HEADER)
    request.execute_using_pool(pool)
    handed_over = pool.executed[0][2]
    assert HEADER not in request.request_dict
    context = Context(handed_over, called_directly=False)
    assert not hasattr(context, HEADER)
    assert agent_header_of(context) == AGENT_HEADER
    for held in (request.delivery_info, context.delivery_info):
        assert HEADER not in held


def test_the_request_of_the_task_is_made_without_a_hole() -> None:
    """Celery copies it: where a member was removed before others, each copy takes a microsecond more."""
    patch_handover(lambda _: AGENT_HEADER)
    pool, request = ProcessPool(), {"id": "job", "delivery_info": {"exchange": ""}}
    BasePool.apply_async(pool, print, ("task", "job", request))
    handed_over = pool.executed[0][2]
    assert HEADER not in handed_over
    assert pop_header(handed_over) == AGENT_HEADER
    assert handed_over == request


def test_what_is_not_a_job_passes_unchanged() -> None:
    """A library that uses the pool for calls of its own would fail."""
    patch_handover(lambda _: AGENT_HEADER)
    pool = ProcessPool()
    for args in [(), (1, 2, 3), [1, 2, {}]]:
        BasePool.apply_async(pool, print, args)
    assert pool.executed == [[], (1, 2, 3), [1, 2, {}]]


def test_a_request_without_the_header_has_none() -> None:
    """A worker whose main process has no agent would give its jobs the header of others."""
    patch_handover(lambda _: {})
    assert agent_header_of(Context({"id": "job"})) == {}
    assert agent_header_of(Context(id="job")) == {}
