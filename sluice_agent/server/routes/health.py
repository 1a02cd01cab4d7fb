"""``GET /api/health``: status, version, and the number of stored events and jobs. It needs no key."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from sluice_agent.server.store import Store

_COUNTS = "SELECT (SELECT coalesce(sum(events), 0) FROM usage), (SELECT coalesce(sum(jobs), 0) FROM tally)"


def health_router(store: Store) -> APIRouter:
    """Return the route for probes."""
    router = APIRouter()
    release = version("sluice-agent")

    @router.get("/health")
    def health() -> JSONResponse:
        with store.reading() as reader:
            events, jobs = reader.exec_driver_sql(_COUNTS).all()[0]
        return JSONResponse({"status": "ok", "version": release, "counts": {"events": events, "jobs": jobs}})

    return router
