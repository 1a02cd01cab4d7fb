"""``GET /api/health``: status, version, and what the database holds. It needs no key."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter

from sluice_agent.server.queries.health import counts
from sluice_agent.server.routes.documented import errors
from sluice_agent.server.routes.responses import Health
from sluice_agent.server.store import Store
from sluice_agent.server.timestamps import timestamp_of, to_moment


def health_router(store: Store) -> APIRouter:
    """Return the route for probes."""
    router = APIRouter(tags=["health"])
    release = version("sluice-agent")

    @router.get("/health", response_model=Health, responses=errors())
    def health() -> dict[str, Any]:
        """Return the state of the server."""
        with store.reading() as reader:
            held = counts(reader)
        oldest = store.reaches_back_to()
        reaches_back_to = None if oldest is None else timestamp_of(to_moment(oldest))
        return {"status": "ok", "version": release, "counts": held, "reachesBackTo": reaches_back_to}

    return router
