"""How a running task says how far it is: `sluice_agent.progress()`, and Celery's own convention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import isnan
from typing import Any

from celery import Task
from celery._state import get_current_task
from celery.backends.base import Backend

from sluice_agent.signals.context import Sink, guarded
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.run import current_run
from sluice_agent.signals.task_process import TaskProcess

_WITHOUT = "an end that a task stores, before it raises `Ignore`, is reported as completed"


class Progress:
    """Finds the task that speaks, and hands its progress to its execution."""

    def __init__(self, sink: Sink, task_process: TaskProcess) -> None:
        self._task_process = task_process
        self.report = guarded(sink, self._report)
        self._on_state_updated = guarded(sink, self._state_updated)
        self._record_end = guarded(sink, self._end_stored)

    def _report(self, fraction: float, task: Task | None = None) -> None:
        """The task that runs here is `fraction` (0 to 1) done. Outside of a task this does nothing."""
        task = task or get_current_task()
        run = current_run(task, task.request.id) if task is not None else None
        if run is not None and isinstance(fraction, (int, float)) and not isnan(fraction):
            self._task_process.progress(run, min(max(fraction, 0.0), 1.0))

    def patch_update_state(self) -> None:
        """Hear ``self.update_state(state="PROGRESS", meta={"current": 3, "total": 10})``. No signal tells of it."""
        handle = self._on_state_updated

        def around(original: Callable[..., Any]) -> Callable[..., Any]:
            def update_state(self: Task, *args: Any, **kwargs: Any) -> Any:
                answer = original(self, *args, **kwargs)
                handle(self, dict(zip(("task_id", "state", "meta"), args, strict=False)) | kwargs)
                return answer

            return update_state

        patch_method(
            Task, "update_state", around, without="progress that a task stores by `update_state` is not reported"
        )

    def patch_stored_ends(self) -> None:
        """Know of an end that a task stores itself, before it raises `Ignore`. No signal reports it."""
        record = self._record_end

        def storing(original: Callable[..., Any]) -> Callable[..., Any]:
            def store_result(backend: Backend, *args: Any, **kwargs: Any) -> Any:
                answer = original(backend, *args, **kwargs)
                named = {**dict(zip(("task_id", "result", "state"), args, strict=False)), **kwargs}
                record(named.get("task_id"), named.get("state"), named.get("result"))
                return answer

            return store_result

        def preparing(original: Callable[..., Any]) -> Callable[..., Any]:
            def __init__(backend: Backend, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it takes the method's place
                original(backend, *args, **kwargs)
                patch_method(type(backend), "store_result", storing, without=_WITHOUT)

            return __init__

        patch_method(Backend, "store_result", storing, without=_WITHOUT)
        for backend in _kinds_of(Backend):  # several have a method of their own, as those that are imported later
            patch_method(backend, "store_result", storing, without=_WITHOUT)
        patch_method(Backend, "__init__", preparing, without=_WITHOUT)

    def _end_stored(self, task_id: Any, state: Any, detail: Any) -> None:
        run = current_run(get_current_task(), task_id)
        if (
            run is not None and not run.has_ended and isinstance(state, str)
        ):  # else it would be kept, and with it what it holds
            run.stored = state, detail

    def _state_updated(self, task: Task, told: Mapping[str, Any]) -> None:
        run = current_run(task, told.get("task_id"))
        state = told.get("state")
        if run is not None and not run.has_ended and isinstance(state, str):
            run.stored = state, told.get("meta")
        fraction = _fraction(told.get("meta")) if told.get("state") == "PROGRESS" else None
        if fraction is not None and told.get("task_id") in (None, task.request.id):
            self._report(fraction, task)


def _kinds_of(kind: type[Any]) -> Iterator[type[Any]]:
    """All classes that stand on this one."""
    for inner in kind.__subclasses__():
        yield inner
        yield from _kinds_of(inner)


def _fraction(meta: Any) -> float | None:
    if not isinstance(meta, dict):
        return None
    current, total = meta.get("current"), meta.get("total")
    if isinstance(current, (int, float)) and isinstance(total, (int, float)) and total > 0:
        return max(min(current, total), 0) / total  # within 0 and 1 first: a ratio of large numbers is no float
    return None
