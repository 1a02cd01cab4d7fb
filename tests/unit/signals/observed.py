"""A recorder whose events a test reads, and real objects of Celery to feed the handlers with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from billiard.pool import ApplyResult
from celery import Celery, Task
from celery._state import pop_current_task, push_current_task
from celery.app.task import Context
from celery.backends.base import Backend
from celery.concurrency.base import BasePool
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.message import Message

from sluice_agent.lifecycle.encoding import JobEvents, JobFacts
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.missing_ends import MissingEnds
from sluice_agent.signals.received_requests import ReceivedRequests
from sluice_agent.signals.received_runs import ReceivedRuns
from sluice_agent.signals.recorder import Recorder
from sluice_agent.signals.run import Run
from sluice_agent.signals.run_names import RunNames
from sluice_agent.signals.task_process import TaskProcess
from sluice_agent.signals.worker_pool import WorkerPool

CONNECTION = "550e8400-e29b-41d4-a716-446655440000"
WORKER = "w@h"
STARTED, _STARTED_NS = "2026-02-27T10:00:00.000000Z", 1_772_186_400_000_000_000

app = Celery("observed", broker="memory://", backend="cache+memory://", set_as_current=False)


class AwayBackend(Backend):
    """A result backend that is unreachable."""

    def _store_result(self, *_: Any, **__: Any) -> Any:
        raise ConnectionError("the result backend is away")


away_app = Celery("away", broker="memory://", set_as_current=False, backend=f"{__name__}:AwayBackend")


@away_app.task(name="away.task")
def away_task() -> None: ...


class ProcessPool(BasePool):
    """A pool that executes nothing, and whose processes are those of others."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[Any] = []
        self.executed: list[tuple[Any, ...]] = []
        self.results: list[ApplyResult] = []

    def on_apply(self, target: Any, args: tuple[Any, ...], *__: Any, **___: Any) -> ApplyResult:
        """Take a job, as billiard does."""
        self.targets.append(target)
        self.executed.append(args)
        self.results.append(ApplyResult({}, None))
        return self.results[-1]

    def terminate_job(self, *_: Any) -> None:
        """Do nothing."""


@app.task(name="observed.task")
def task(*_: Any) -> None: ...


@app.task(name="observed.late", acks_late=True)
def late() -> None: ...


class Observed:
    """The events of the jobs of one process, and the objects that make them, as `signals.connect` builds them."""

    def __init__(self, *, redact: Callable[[str, Any], Any] | None = None, ignored: str | None = None) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.dropped: list[str] = []
        self.sink = Sink(
            emit=lambda line: self.jobs.append(json.loads(line)["job"]),
            drop=self.dropped.append,
            connection_id=CONNECTION,
            is_ignored=lambda name: name == ignored,
            redact=redact,
        )
        self.pool, self.names = WorkerPool(), RunNames()
        self.recorder = Recorder(self.sink)
        self.requests = ReceivedRequests(self.pool)
        self.runs = ReceivedRuns(self.sink, self.requests)
        self.missing_ends = MissingEnds(self.sink, self.recorder)
        self.task_process = TaskProcess(self.sink, self.recorder, self.names, self.missing_ends)

    @property
    def walk(self) -> str:
        """The states that were reported, in their order."""
        return " ".join(job["state"] for job in self.jobs)

    @property
    def last(self) -> dict[str, Any]:
        """The job as it was reported last; its extensions are members as well."""
        return {**self.jobs[-1], **self.jobs[-1]["extensions"]}

    def handle(self, received: Message, on_request: Callable[[Request], object]) -> Request:
        """Handle a message as the worker does, which makes a request of it, and return that."""
        requests: list[Request] = []

        def strategy(message: Message, *_: Any) -> None:
            requests.append(request_for(message))
            on_request(requests[0])

        self.requests.patch(self.sink)
        TaskConsumer(strategy).create_task_handler()(received)
        return requests[0]

    def receive(self, external_id: str = "job", of: Task = task, **agent_header: str) -> Request:
        """Return the worker's request for a new message, held as it is once the worker has received it."""
        request = request_for(message(external_id, of), of)
        self.requests.keep(request).update(agent_header)
        return request


class TaskConsumer(Consumer):
    """Celery's consumer, as far as it passes a message on to the strategy of its task."""

    def __init__(self, strategy: Callable[..., None]) -> None:
        self.strategies = {task.name: strategy}
        self.on_task_message = set()
        self._maximum_prefetch_restored = True


def run(external_id: str = "job", **facts: Any) -> Run:
    """Return a run that began just now."""
    events = JobEvents(CONNECTION, JobFacts(external_id, "observed.task", **facts))
    return Run(events, _STARTED_NS, time.monotonic(), STARTED, {})


def message(external_id: str = "job", of: Task = task, **headers: Any) -> Message:
    """Return the message of a job, as a broker's transport makes it."""
    sent = of.app.amqp.as_task_v2(external_id, of.name)
    return Message(
        body=json.dumps(sent.body),
        headers={**sent.headers, **headers},
        properties=sent.properties,
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={"exchange": "", "routing_key": "celery", "redelivered": False},
    )


def request_for(received: Message, of: Task = task) -> Request:
    """Return the worker's request for a message."""
    return Request(received, app=of.app, task=of, hostname=WORKER)


@contextmanager
def executing(of: Task = task, external_id: str | None = "job", **fields: Any) -> Iterator[Context]:
    """Execute a request of a task in this process, as far as the task can know."""
    given = {"id": external_id, "hostname": WORKER, "retries": 0, "delivery_info": {"routing_key": "celery"}, **fields}
    context = Context(given)
    push_current_task(of)
    of.request_stack.push(context)
    try:
        yield context
    finally:
        of.request_stack.pop()
        pop_current_task()
