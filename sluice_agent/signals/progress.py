"""The progress that a running task reports: by `sluice_agent.progress()`, or by Celery's own convention."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import isnan
from typing import Any

from celery import Task
from celery._state import get_current_task
from celery.backends.base import Backend

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.current_runs import current_run
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.recorder import Recorder

_EFFECT = "an end that a task stores, before it raises `Ignore`, is reported as completed"


class Progress:
    """Find the run that a report belongs to, and hand it the progress or the end that its task stores."""

    def __init__(self, sink: Sink, recorder: Recorder) -> None:
        self._recorder = recorder
        self.report = guarded(sink, self._report)
        self._on_update_state = guarded(sink, self._state_updated)
        self._on_store_result = guarded(sink, self._end_stored)

    def _report(self, fraction: float, task: Task | None = None) -> None:
        """Report that the task that runs here is `fraction` (0 to 1) done. Outside of a task, do nothing."""
        task = task or get_current_task()
        run = current_run(task, task.request.id) if task is not None else None
        if run is not None and isinstance(fraction, (int, float)) and not isnan(fraction):
            self._recorder.record_progress(run, min(max(fraction, 0.0), 1.0))

    def patch_update_state(self) -> None:
        """Report ``self.update_state(state="PROGRESS", meta={"current": 3, "total": 10})``, which has no signal."""
        handle = self._on_update_state

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
        """Record an end that a task stores itself, before it raises `Ignore`. Celery has no signal for it."""
        handle = self._on_store_result

        def around_store_result(original: Callable[..., Any]) -> Callable[..., Any]:
            def store_result(backend: Backend, *args: Any, **kwargs: Any) -> Any:
                answer = original(backend, *args, **kwargs)
                named = {**dict(zip(("task_id", "result", "state"), args, strict=False)), **kwargs}
                handle(named.get("task_id"), named.get("state"), named.get("result"))
                return answer

            return store_result

        def around_init(original: Callable[..., Any]) -> Callable[..., Any]:
            def __init__(backend: Backend, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it replaces the method
                original(backend, *args, **kwargs)
                patch_method(type(backend), "store_result", around_store_result, without=_EFFECT)

            return __init__

        patch_method(Backend, "store_result", around_store_result, without=_EFFECT)
        for backend in _subclasses(Backend):  # several override the method, as may those that are imported later
            patch_method(backend, "store_result", around_store_result, without=_EFFECT)
        patch_method(Backend, "__init__", around_init, without=_EFFECT)

    def _end_stored(self, task_id: Any, state: Any, detail: Any) -> None:
        run = current_run(get_current_task(), task_id)
        if run is not None and isinstance(state, str):
            self._recorder.record_stored_state(run, state, detail)

    def _state_updated(self, task: Task, arguments: Mapping[str, Any]) -> None:
        run = current_run(task, arguments.get("task_id"))
        state = arguments.get("state")
        if run is not None and isinstance(state, str):
            self._recorder.record_stored_state(run, state, arguments.get("meta"))
        fraction = _fraction(arguments.get("meta")) if arguments.get("state") == "PROGRESS" else None
        if fraction is not None and arguments.get("task_id") in (None, task.request.id):
            self._report(fraction, task)


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    """Yield all classes that are derived from `base`."""
    for subclass in base.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _fraction(meta: Any) -> float | None:
    if not isinstance(meta, dict):
        return None
    current, total = meta.get("current"), meta.get("total")
    if isinstance(current, (int, float)) and isinstance(total, (int, float)) and total > 0:
        return max(min(current, total), 0) / total  # clamped first: the ratio of two large integers may not fit a float
    return None
