"""``GET /api/health``: status, version, and what the database holds. It needs no key."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Response

from sluice_agent.server.queries.health import counts
from sluice_agent.server.routes.closed import answer_of
from sluice_agent.server.routes.documented import errors
from sluice_agent.server.routes.responses import Health
from sluice_agent.server.store import Store
from sluice_agent.server.timestamps import timestamp_of, to_moment


def health_router(store: Store) -> APIRouter:
    """Return the route for probes."""
    router = APIRouter(tags=["health"])
    answer = answer_of(Health)
    release = version("sluice-agent")

    @router.get("/health", response_model=Health, responses=errors())
    def health() -> Response:
        """Return the state of the server."""
        with store.reading() as reader:
            held = counts(reader)
        oldest = store.reaches_back_to()
        reaches_back_to = None if oldest is None else timestamp_of(to_moment(oldest))
        return answer({"status": "ok", "version": release, "counts": held, "reachesBackTo": reaches_back_to})

    return router
