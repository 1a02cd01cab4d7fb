"""All pages together."""

from __future__ import annotations

from fastapi import APIRouter

from sluice_agent.server.pages.action_progress import progress_router
from sluice_agent.server.pages.action_question import question_router
from sluice_agent.server.pages.assets import assets_router
from sluice_agent.server.pages.audit_log import audit_log_router
from sluice_agent.server.pages.canvas import canvas_router
from sluice_agent.server.pages.connections import connections_router
from sluice_agent.server.pages.error_groups import errors_router
from sluice_agent.server.pages.job import job_router
from sluice_agent.server.pages.jobs import jobs_router
from sluice_agent.server.pages.keys import keys_router
from sluice_agent.server.pages.now import now_router
from sluice_agent.server.pages.queues import queues_router
from sluice_agent.server.pages.settings import settings_router
from sluice_agent.server.pages.signin import signin_router
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.pages.tasks import tasks_router
from sluice_agent.server.pages.workers import workers_router


def pages_router(sources: Sources) -> APIRouter:
    """Return the routes of all pages and of their assets."""
    router = APIRouter(include_in_schema=False)
    router.include_router(assets_router())
    for page in (
        now_router,
        jobs_router,
        job_router,
        question_router,  # before the next one, whose paths match its own
        progress_router,
        canvas_router,
        errors_router,
        tasks_router,
        queues_router,
        workers_router,
        connections_router,
        keys_router,
        audit_log_router,
        settings_router,
        signin_router,
    ):
        router.include_router(page(sources))

    return router
