"""All pages of the jobs API together."""

from __future__ import annotations

from fastapi import APIRouter

from sluice_agent.server.pages.jobs_api.dead_letters import dead_letters_router
from sluice_agent.server.pages.jobs_api.definition import definition_router
from sluice_agent.server.pages.jobs_api.definition_actions import definition_actions_router
from sluice_agent.server.pages.jobs_api.definition_clone import definition_clone_router
from sluice_agent.server.pages.jobs_api.definition_edit import definition_edit_router
from sluice_agent.server.pages.jobs_api.definitions import definitions_router
from sluice_agent.server.pages.jobs_api.dependencies import dependencies_router
from sluice_agent.server.pages.jobs_api.replays import replays_router
from sluice_agent.server.pages.jobs_api.run import run_router
from sluice_agent.server.pages.jobs_api.run_actions import run_actions_router
from sluice_agent.server.pages.jobs_api.run_log import run_log_router
from sluice_agent.server.pages.jobs_api.runs import runs_router
from sluice_agent.server.pages.jobs_api.schedules import schedules_router
from sluice_agent.server.pages.jobs_api.scope import JobsSources
from sluice_agent.server.pages.jobs_api.trigger import trigger_router
from sluice_agent.server.pages.jobs_api.versions import versions_router


def jobs_pages_router(sources: JobsSources) -> APIRouter:
    """Return the routes of all pages of the jobs API."""
    router = APIRouter(include_in_schema=False)
    for page in (
        runs_router,
        run_router,
        run_log_router,
        run_actions_router,
        dead_letters_router,
        replays_router,
        definitions_router,
        definition_edit_router,  # this and the next four before that whose paths match their own
        definition_clone_router,
        dependencies_router,
        versions_router,
        trigger_router,
        definition_actions_router,
        definition_router,
        schedules_router,
    ):
        router.include_router(page(sources))
    return router
