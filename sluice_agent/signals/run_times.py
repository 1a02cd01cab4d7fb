"""The start and end of a run in a task process, as its worker's main process knows them."""

from __future__ import annotations

import time
from typing import Any

from sluice_agent.lifecycle.timestamps import timestamp


def times_of(request: Any) -> tuple[str | None, str]:
    """Return the start of the run of a worker's `request`, or None if it is unknown, and its end, which is now.

    The wall clock may have been set since: the end is the start plus the time that has passed by the monotonic clock.
    """
    now = time.time()
    started = getattr(request, "time_start", None)
    if not started:
        return None, timestamp(now)
    handle = getattr(request, "_apply_result", None)
    accepted = getattr(handle and handle(), "_time_accepted", None)  # billiard's, by the monotonic clock
    if accepted is None:
        return timestamp(started), timestamp(max(started, now))
    elapsed = time.monotonic() - accepted
    if elapsed < 0:  # Celery sets it by the wall clock if the pool process has just exited: no run has begun
        return None, timestamp(now)
    return timestamp(started), timestamp(started + elapsed)
