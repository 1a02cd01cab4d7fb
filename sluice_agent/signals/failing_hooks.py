"""What is raised while a failure is dealt with that is reported already: by `on_failure`, or by the result backend.

Celery deals with what a hook raises as with a failure, so the hook is called again, and may raise again. No signal says
so: that exception leaves the pool process, and the main process takes it for the job's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.app.trace import TraceInfo

from sluice_agent.signals.listening import listen
from sluice_agent.signals.outcome import is_told, note_told
from sluice_agent.signals.watch import Watch, harmless


def watch_failing_hooks(watch: Watch) -> None:
    """Mark each such exception as one whose job's end is reported."""
    mark = harmless(watch, _mark)

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def handle_failure(info: TraceInfo, *args: Any, **kwargs: Any) -> Any:
            try:
                return original(info, *args, **kwargs)
            except Exception as error:
                mark(getattr(info, "retval", None), error)
                raise

        return handle_failure

    listen(TraceInfo, "handle_failure", around, without="what `on_failure` raises is reported as another failure")


def _mark(failure: Any, raised: BaseException) -> None:
    if isinstance(failure, BaseException) and is_told(failure):
        note_told(raised)
