"""The application under ``/v1``: its routers, errors and description."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from fastapi import Request
from fastapi.responses import JSONResponse

from sluice_agent.jobs.routes.attempts import attempts_router
from sluice_agent.jobs.routes.definitions import definitions_router
from sluice_agent.jobs.routes.dependencies import dependencies_router
from sluice_agent.jobs.routes.documented import REFUSED_BY_LIMIT
from sluice_agent.jobs.routes.endpoints import EndpointRules
from sluice_agent.jobs.routes.errors import error_response, register_errors
from sluice_agent.jobs.routes.health import health_router
from sluice_agent.jobs.routes.middleware import Conventions
from sluice_agent.jobs.routes.replays import replays_router
from sluice_agent.jobs.routes.request_limits import RequestCounts, RequestLimit, RequestLimits
from sluice_agent.jobs.routes.runs import runs_router
from sluice_agent.jobs.routes.schedules import schedules_router
from sluice_agent.jobs.routes.triggers import triggers_router
from sluice_agent.jobs.routes.webhooks import webhooks_router
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.access.setup import Access
from sluice_agent.server.database_errors import register_database_errors
from sluice_agent.server.own_errors import OwnErrorsApp


class JobsApp(OwnErrorsApp):
    """The jobs API over `store`, for those whom `access` knows. It describes itself at ``/v1/openapi.json``.

    `rules` are those of the endpoints of jobs, `limits` those of the requests of an address, by `clock` in seconds.
    """

    def __init__(
        self,
        store: JobsStore,
        access: Access,
        rules: EndpointRules,
        limits: RequestLimits,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(
            title="sluice-agent serve: jobs",
            version=version("sluice-agent"),
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        self.state.access = access
        if limits:
            counts = RequestCounts(limits, clock)
            self.add_middleware(RequestLimit, counts=counts, limits=limits, proxies=access.proxies)
        self.add_middleware(Conventions)  # around it: its answers are like all others
        register_errors(self)
        register_database_errors(self, _unavailable)
        for router in (
            dependencies_router(store),
            triggers_router(store, rules),
            schedules_router(store),
            definitions_router(store, rules),
            health_router(store),
            runs_router(store),
            replays_router(store),
            attempts_router(store),
            webhooks_router(store),
        ):
            self.include_router(router, responses=REFUSED_BY_LIMIT)


def _unavailable(request: Request, message: str, headers: dict[str, str]) -> JSONResponse:
    return error_response(request.scope, 503, message, headers=headers)
