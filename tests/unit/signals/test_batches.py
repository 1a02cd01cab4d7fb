"""A task that is called for several jobs at once, under a request that belongs to none of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sluice_agent.signals.current_runs import current_run
from tests.unit.signals.observed import Observed, executing, task


class Batch:
    """The task as celery-batches calls it, and the events emitted meanwhile."""

    def __init__(self, args: Any) -> None:
        self._observed = Observed()
        self._args = args
        self.jobs = self._observed.jobs

    def run(self, *failed: str, state: str = "SUCCESS") -> list[tuple[str, str]]:
        """Run the task, which marks some jobs as `failed`; return the reported states."""
        with executing(external_id=None):
            self._observed.task_process.prerun(task=task, args=self._args)
            for external_id in failed:
                run = current_run(task, external_id)
                assert run is not None
                self._observed.recorder.record_stored_state(run, "FAILURE", {"exc_message": ["boom"]})
            self._observed.task_process.postrun(task=task, state=state)
        assert self._observed.dropped == []
        return [(job["externalId"], job["state"]) for job in self.jobs]


def member(external_id: Any) -> Any:
    headers = {"id": external_id, "root_id": external_id, "task": task.name}
    return SimpleNamespace(id=external_id, request_dict=headers, delivery_info={"routing_key": "q"}, hostname="w@h")


def test_each_job_of_a_batch_comes_to_its_end() -> None:
    """Otherwise they would seem to wait for ever."""
    batch = Batch(([member("a"), member(2)],))
    assert batch.run() == [("a", "active"), ("2", "active"), ("a", "completed"), ("2", "completed")]
    assert {(job["queue"], job["workerId"], job["name"]) for job in batch.jobs} == {("q", "w@h", task.name)}


def test_a_job_of_a_batch_that_is_stored_as_failed_has_failed() -> None:
    """A batch distinguishes its jobs only in the results that it stores."""
    batch = Batch(([member("a"), member("b")],))
    assert batch.run("b")[2:] == [("a", "completed"), ("b", "failed")]
    assert batch.jobs[-1]["error"] == "Failure: boom"
    assert Batch(([member("a")],)).run(state="FAILURE")[1:] == [("a", "failed")]


@pytest.mark.parametrize(
    "args", [(), None, ([],), ([1, None, "x"],), ([SimpleNamespace(id=None, request_dict={})],), 5]
)
def test_an_unknown_kind_of_request_does_no_harm(args: Any) -> None:
    """A third party's strategy, pool or `Task.__call__` may call a task with any arguments."""
    assert Batch(args).run() == []
