"""Jobs whose pool process is lost after their success was stored: they have completed, and Celery sends no signal.

Celery 5.7 looks for the stored result before it marks such a job as failed; older versions mark it as failed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from celery.worker.request import Request

from sluice_agent.lifecycle.sink import Sink
from sluice_agent.lifecycle.timestamps import seconds_from_iso, timestamp
from sluice_agent.signals.guard import guarded
from sluice_agent.signals.outcome import SUCCEEDED, Report
from sluice_agent.signals.patching import patch_method


def patch_stored_successes(sink: Sink, report: Report) -> None:
    """Report `completed` where Celery finds the success."""

    def on_success_found(request: Request, meta: Mapping[str, Any]) -> None:
        ended = seconds_from_iso(_text(meta.get("date_done")))
        started = getattr(request, "time_start", None)
        if ended is None or started is None or ended < started:  # the clock was set back while it ran
            report(request, SUCCEEDED)
        else:
            report(request, SUCCEEDED, when=timestamp(ended), runtime=ended - started)

    handle = guarded(sink, on_success_found)

    def around(original: Callable[..., Any]) -> Callable[..., Any]:
        def success_was_stored(request: Request, *args: Any, **kwargs: Any) -> Any:
            meta = original(request, *args, **kwargs)
            if meta:
                handle(request, meta)
            return meta

        return success_was_stored

    patch_method(
        Request,
        "_success_was_stored",
        around,
        without="a job whose pool process is lost after its success was stored stays active",
        is_new=True,  # in Celery 5.7
    )


def _text(date: Any) -> str | None:
    """Return the date of a result as the text that Celery writes: some backends return a `datetime`."""
    return date.isoformat() if isinstance(date, datetime) else date
