"""Exceptions that `on_failure` or the result backend raises while Celery handles a failure that is reported already.

Celery handles an exception of a hook as a failure, so it calls the hook again, which may raise again. No signal reports
this: the second exception leaves the pool process, and the main process takes it for the job's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.app.trace import TraceInfo

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.patching import patch_method
from sluice_agent.signals.recorder import Recorder


def patch_failing_hooks(sink: Sink, recorder: Recorder) -> None:
    """Mark each such exception: the end of its job is reported."""
    mark = guarded(sink, recorder.mark_successor)

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def handle_failure(info: TraceInfo, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(info, *args, **kwargs)
            except Exception as error:
                mark(error, getattr(info, "retval", None))
                raise

        return handle_failure

    patch_method(TraceInfo, "handle_failure", around, without="what `on_failure` raises is reported as another failure")
