"""A task that is called for several jobs at once, under a request that belongs to none of them."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.missing_verdicts import MissingVerdicts
from sluice_agent.signals.progress import Progress
from sluice_agent.signals.recorder import Recorder
from sluice_agent.signals.run_names import RunNames
from sluice_agent.signals.task_process import TaskProcess

app = Celery("batches", set_as_current=False)


@app.task(name="batches.count")
def count(requests: Any) -> None: ...


class Batch:
    """The task as celery-batches calls it, and the events emitted meanwhile."""

    def __init__(self, args: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self._args = args
        sink = Sink(
            emit=lambda line: self.events.append(json.loads(line)["job"]),
            drop=pytest.fail,
            connection_id="550e8400-e29b-41d4-a716-446655440000",
            is_ignored=lambda _: False,
            redact=None,
        )
        recorder = Recorder(sink)
        self.task_process = TaskProcess(sink, recorder, RunNames(), MissingVerdicts(sink, recorder))
        self.progress = Progress(sink, recorder)

    def run(self, *failed: str, state: str = "SUCCESS") -> list[tuple[str, str]]:
        """Run the task, which marks some jobs as `failed`; return the reported states."""
        count.request_stack.push(Context())
        try:
            self.task_process.prerun(task=count, args=self._args)
            for external_id in failed:
                self.progress._state_updated(
                    count, {"task_id": external_id, "state": "FAILURE", "meta": {"exc_message": ["boom"]}}
                )
            self.task_process.postrun(task=count, state=state)
        finally:
            count.request_stack.pop()
        return [(job["externalId"], job["state"]) for job in self.events]


def member(external_id: Any) -> Any:
    headers = {"id": external_id, "root_id": external_id, "task": "batches.count"}
    return SimpleNamespace(id=external_id, request_dict=headers, delivery_info={"routing_key": "q"}, hostname="w@h")


def test_each_job_of_a_batch_comes_to_its_end() -> None:
    """Otherwise they would seem to wait for ever."""
    batch = Batch(([member("a"), member(2)],))
    assert batch.run() == [("a", "active"), ("2", "active"), ("a", "completed"), ("2", "completed")]
    assert {(job["queue"], job["workerId"], job["name"]) for job in batch.events} == {("q", "w@h", "batches.count")}


def test_a_job_of_a_batch_that_is_stored_as_failed_has_failed() -> None:
    """A batch distinguishes its jobs only in the results that it stores."""
    batch = Batch(([member("a"), member("b")],))
    assert batch.run("b")[2:] == [("a", "completed"), ("b", "failed")]
    assert batch.events[-1]["error"] == "Failure: boom"
    assert Batch(([member("a")],)).run(state="FAILURE")[1:] == [("a", "failed")]


@pytest.mark.parametrize(
    "args", [(), None, ([],), ([1, None, "x"],), ([SimpleNamespace(id=None, request_dict={})],), 5]
)
def test_an_unknown_kind_of_request_does_no_harm(args: Any) -> None:
    """A third party's strategy, pool or `Task.__call__` may call a task with any arguments."""
    assert Batch(args).run() == []
