"""A program in which an exception strikes at every step that the agent takes: see `test_async_exceptions`.

The actions are `progress`, `publish`, `run`, `plain` and `beside`. It prints the result of every step of each, as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from celery import Celery
from celery import signals as celery_signals
from celery.app.trace import build_tracer
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.dispatch import signal as dispatching

import sluice_agent
from sluice_agent import signals
from sluice_agent.lifecycle.encoding import JobFacts, shared_text
from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import timestamp_now
from sluice_agent.signals.agent_header import HEAD, HEADER, MEMBERS, RUN

_SECOND = len("2026-02-27T10:00:00")
STRUCK_FILES = (str(Path(sluice_agent.__file__).parent), dispatching.__file__)

app = Celery("struck", broker="memory://", backend="cache+memory://", set_as_current=False)
emitted: list[dict[str, Any]] = []
dropped: Counter[str] = Counter()
instrumentation = signals.connect(
    Sink(
        emit=lambda line: emitted.append(json.loads(line)["job"]),
        drop=lambda reason: dropped.update([reason]),
        connection_id="550e8400-e29b-41d4-a716-446655440000",
    )
)


class TooLongError(TimeoutError):
    """Exception of the host's signal handler."""


KINDS = {"own": TooLongError, "plain": TimeoutError, "celery": SoftTimeLimitExceeded}


class Strike:
    """Raises at the step `at`, from an OS signal handler, as a time limit does."""

    def __init__(self, at: int, kind: type[Exception]) -> None:
        self._steps_left = at
        self._kind = kind
        self.has_struck = False

    def __enter__(self) -> Strike:
        signal.signal(signal.SIGALRM, self._handle)
        sys.setprofile(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> None:
        """Count the points at which Python checks for signals: a function begins, or one in C has returned."""
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(STRUCK_FILES):
            self._steps_left -= 1
            if self._steps_left < 0 and not self.has_struck:
                self.has_struck = True
                signal.raise_signal(signal.SIGALRM)

    def _handle(self, *_: Any) -> None:
        raise self._kind("too long")


@app.task(name="struck.task")
def task() -> None:
    instrumentation.report_progress(0.5)


@app.task(name="struck.reporter")
def reporter(at: int, kind: str) -> str:
    emitted.clear()
    return _outcome(at, kind, lambda: instrumentation.report_progress(0.25))


@app.task(name="struck.plain")
def plain_task() -> None: ...


plain_task.__trace__ = build_tracer(plain_task.name, plain_task, app=app)
ID = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
_FIELDS = {"id": ID, "task": plain_task.name, "retries": 0, "delivery_info": {"exchange": "", "routing_key": "celery"}}
_TEXT = shared_text(instrumentation.sink.connection_id, JobFacts(ID, plain_task.name, queue="celery"))
_AGENT_HEADER = {RUN: f"w@h/{os.getpid()}/a.0", HEAD: _TEXT.head, MEMBERS: _TEXT.members}


def progress(at: int, kind: str) -> str:
    """Run a task that reports its progress."""
    return str(reporter.apply((at, kind), throw=True).result)


def publish(at: int, kind: str) -> str:
    """Publish a task."""
    return _outcome(at, kind, task.apply_async)


def run(at: int, kind: str) -> str:
    """Run a task."""
    return _outcome(at, kind, task.apply)


def plain(at: int, kind: str) -> str:
    """Run a plain job as a worker does, which has received it."""
    return _outcome(at, kind, lambda: plain_task.__trace__(ID, (), {}, {**_FIELDS, HEADER: dict(_AGENT_HEADER)}))


def beside(at: int, kind: str) -> str:
    """Run a plain job where another library receives the signals too."""
    for of_run in (celery_signals.task_prerun, celery_signals.task_postrun):
        of_run.connect(_receive, weak=False)
    try:
        return plain(at, kind)
    finally:
        for of_run in (celery_signals.task_prerun, celery_signals.task_postrun):
            of_run.disconnect(_receive)


def _receive(**_: Any) -> None: ...


def _outcome(at: int, kind: str, action: Callable[[], object]) -> str:
    strike = Strike(at, KINDS[kind])
    try:
        with strike:
            action()
    except (TimeoutError, SoftTimeLimitExceeded):
        return "raised"
    return "swallowed" if strike.has_struck else "done"


def sweep(action: Callable[[int, str], str], kind: str) -> list[dict[str, Any]]:
    """Return the results of `action` when an exception strikes at its first step, its second, and so on."""
    steps: list[dict[str, Any]] = []
    while True:
        emitted.clear()
        dropped.clear()
        second = timestamp_now()[:_SECOND]  # the text of a second is cached: to make it anew would take further steps
        result = action(len(steps), kind)
        if timestamp_now()[:_SECOND] != second:
            continue
        steps.append({"result": result, "events": [job["state"] for job in emitted], "dropped": dict(dropped)})
        if result == "done":
            return steps


if __name__ == "__main__":
    logging.disable()
    actions = {"progress": progress, "publish": publish, "run": run, "plain": plain, "beside": beside}
    print(json.dumps({name: {kind: sweep(action, kind) for kind in KINDS} for name, action in actions.items()}))
