"""Jobs that are executed together, in one call of their task, as celery-batches has it.

Celery's own strategy is not used then. The task runs under a request that is no job's, and is called with a list of
what stands for the jobs: objects with `id`, and with the headers of the job's message as `request_dict`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from sluice_agent.model import JobState
from sluice_agent.signals.outcome import COMPLETED, Outcome, outcome_stored

_LARGEST = 10_000  # jobs of a batch that are reported


def jobs_in(args: Any) -> Iterator[dict[str, Any]]:
    """What is known of each job that stands in a task's arguments, as a request of its own would have it."""
    lists = (argument for argument in args if isinstance(argument, (list, tuple))) if isinstance(args, tuple) else ()
    for request in islice((item for items in lists for item in items), _LARGEST):
        headers, external_id = getattr(request, "request_dict", None), getattr(request, "id", None)
        if isinstance(headers, dict) and external_id is not None:
            delivery = getattr(request, "delivery_info", None)
            hostname = getattr(request, "hostname", None)
            yield {**headers, "id": external_id, "delivery_info": delivery, "hostname": hostname}


def outcome_in_batch(stored: tuple[str, Any] | None, state: str | None) -> Outcome:
    """How a job ended: as the task has `stored` for it, else as the batch did, in Celery's `state`."""
    outcome = outcome_stored(*stored) if stored else None
    if outcome is None and state != "SUCCESS":
        outcome = Outcome(JobState.FAILED, "FAILURE", "Failure: the task that ran its batch has failed")
    return outcome or COMPLETED
