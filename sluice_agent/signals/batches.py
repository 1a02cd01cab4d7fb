"""Jobs that are executed together, in one call of their task, as celery-batches does it.

celery-batches replaces Celery's own strategy. The task runs under a request that belongs to no job, and is called with
a list of objects that represent the jobs: each has `id`, and the headers of the job's message as `request_dict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from sluice_agent.lifecycle import transitions
from sluice_agent.signals.outcome import SUCCEEDED, Outcome, outcome_stored

_MAX_JOBS = 10_000  # of a batch: the others are not reported


def jobs_in(args: Any) -> Iterator[dict[str, Any]]:
    """Yield the fields of each job in a task's arguments, as the job's own request would hold them."""
    lists = (argument for argument in args if isinstance(argument, (list, tuple))) if isinstance(args, tuple) else ()
    for request in islice((item for items in lists for item in items), _MAX_JOBS):
        headers, external_id = getattr(request, "request_dict", None), getattr(request, "id", None)
        if isinstance(headers, dict) and external_id is not None:
            delivery = getattr(request, "delivery_info", None)
            hostname = getattr(request, "hostname", None)
            yield {**headers, "id": external_id, "delivery_info": delivery, "hostname": hostname}


def outcome_in_batch(stored: tuple[str, Any] | None, state: str | None) -> Outcome:
    """Return the end of a job: the one that the task has `stored` for it, else the batch's, from Celery's `state`."""
    outcome = outcome_stored(*stored) if stored else None
    if outcome is None and state != "SUCCESS":
        outcome = Outcome(transitions.FAILED, "Failure: the task that ran its batch has failed")
    return outcome or SUCCEEDED
