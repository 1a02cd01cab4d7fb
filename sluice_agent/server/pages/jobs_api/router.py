"""All pages of the jobs API together."""

from __future__ import annotations

from fastapi import APIRouter

from sluice_agent.server.pages.jobs_api.dead_letters import dead_letters_router
from sluice_agent.server.pages.jobs_api.run import run_router
from sluice_agent.server.pages.jobs_api.run_actions import run_actions_router
from sluice_agent.server.pages.jobs_api.runs import runs_router
from sluice_agent.server.pages.jobs_api.scope import JobsSources


def jobs_pages_router(sources: JobsSources) -> APIRouter:
    """Return the routes of all pages of the jobs API."""
    router = APIRouter(include_in_schema=False)
    for page in (runs_router, run_router, run_actions_router, dead_letters_router):
        router.include_router(page(sources))
    return router
