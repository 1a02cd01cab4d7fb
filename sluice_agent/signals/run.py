"""One execution of one attempt of a job, as the process that executes it knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from celery import Task

from sluice_agent.translation import JobEvents

CARRIED = "_sluice_run"  # where a request carries its `Run`: it goes when the request goes


@dataclass(slots=True)
class Run:
    """One execution of one attempt, in this process."""

    told: JobEvents
    started: str
    clock: float
    note: Mapping[str, str]
    """What our header said."""
    published_at: str | None = None
    """When this job published itself again, as its retry."""
    progress_at: float = float("-inf")
    unsaid_progress: tuple[float, str] | None = None
    """How far, and when it was said: told later, it still belongs before an end that another process tells."""
    has_ended: bool = False

    @property
    def is_eager(self) -> bool:
        """Whether whoever called the task runs it."""
        return "eager" in self.told.facts.extensions


def run_here(task: Task | None, external_id: str | None = None) -> Run | None:
    """The execution that `task` is in the middle of, if it is of job `external_id` or that does not matter."""
    if task is None:
        return None
    request = task.request
    if external_id is not None and request.id != external_id:
        return None
    run: Run | None = vars(request).get(CARRIED)
    return run
