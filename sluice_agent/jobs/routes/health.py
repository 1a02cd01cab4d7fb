"""``/v1/jobs/{id}/health``: how the runs of a job end, as one number and as those behind it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from sluice_agent.jobs.definitions.jobs import find_job
from sluice_agent.jobs.definitions.views import time_text
from sluice_agent.jobs.routes.access import Sender
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.routes.body import KeyFirst
from sluice_agent.jobs.routes.documented import HealthBody, responses
from sluice_agent.jobs.routes.parameters import Id
from sluice_agent.jobs.runs.health import Health, HealthWindow, read_health
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.store import JobsStore

Window = Annotated[HealthWindow, Query(description="Runs that were created since then.")]


def health_router(store: JobsStore) -> APIRouter:
    """Return the route of a job's health."""
    router = APIRouter(prefix="/jobs/{job_id}/health", tags=["jobs"], route_class=KeyFirst)

    @router.get("", responses=responses(200, HealthBody, 404))
    def get_health(job_id: Id, caller: Sender, window: Window = HealthWindow.WEEK) -> Response:
        """Return how the runs of a job have ended, and how long they took. Without runs the score is -1."""
        with store.reading() as reader:
            job = find_job(reader, job_id, caller.project)
            health = read_health(reader, job.id, window, store.moment)
        return answer({"job_id": job.id, "window": window.value, **_view(health)})

    return router


def _view(health: Health) -> dict[str, Any]:
    def count(*statuses: Status) -> int:
        return sum(health.counts[status] for status in statuses)

    return {
        "since": time_text(health.since),
        "total_runs": health.total,
        "completed_runs": count(Status.COMPLETED),
        "failed_runs": count(Status.FAILED, Status.DEAD_LETTER),
        "timed_out_runs": count(Status.TIMED_OUT),
        "crashed_runs": count(Status.CRASHED, Status.SYSTEM_FAILED),
        "canceled_runs": count(Status.CANCELED),
        "expired_runs": count(Status.EXPIRED),
        "success_rate": health.success_rate,
        "avg_duration_secs": health.durations.mean,
        "p95_duration_secs": health.durations.p95,
        "p99_duration_secs": health.durations.p99,
        "health_score": health.score,
    }
