"""All pages together."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import RedirectResponse

from sluice_agent.server.pages.assets import assets_router
from sluice_agent.server.pages.jobs import jobs_router
from sluice_agent.server.pages.settings import settings_router
from sluice_agent.server.pages.signin import signin_router
from sluice_agent.server.pages.sources import Sources


def pages_router(sources: Sources) -> APIRouter:
    """Return the routes of all pages and of their assets."""
    router = APIRouter(include_in_schema=False)
    router.include_router(assets_router())
    for page in (jobs_router, settings_router, signin_router):
        router.include_router(page(sources))

    @router.get("/")
    def start() -> RedirectResponse:
        return RedirectResponse("/jobs")

    return router
