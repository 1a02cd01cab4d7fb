"""The application under ``/v1``: its routers, errors and description."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from sluice_agent.jobs.routes.definitions import definitions_router
from sluice_agent.jobs.routes.dependencies import dependencies_router
from sluice_agent.jobs.routes.endpoints import EndpointRules
from sluice_agent.jobs.routes.errors import error_response, register_errors
from sluice_agent.jobs.routes.middleware import Conventions
from sluice_agent.jobs.routes.runs import runs_router
from sluice_agent.jobs.routes.triggers import triggers_router
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.access.setup import Access
from sluice_agent.server.database_errors import register_database_errors

PATH = "/v1"


class JobsApp(FastAPI):
    """The jobs API over `store`, for those whom `access` knows. It describes itself at ``/v1/openapi.json``.

    `allows_private`: jobs may have endpoints at private addresses, and at those of this machine.
    """

    def __init__(self, store: JobsStore, access: Access, *, allows_private: bool) -> None:
        super().__init__(
            title="sluice-agent serve: jobs",
            version=version("sluice-agent"),
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        self.state.access = access
        self.add_middleware(Conventions)
        register_errors(self)
        register_database_errors(self, _unavailable)
        rules = EndpointRules(allows_private)
        for router in (
            dependencies_router(store),
            triggers_router(store),
            definitions_router(store, rules),
            runs_router(store),
        ):
            self.include_router(router)

    def openapi(self) -> dict[str, Any]:
        """Return the description. What is not valid is a 400 here, where the framework has a 422."""
        if self.openapi_schema is None:
            description = super().openapi()
            for operations in description["paths"].values():
                for operation in operations.values():
                    operation["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                description["components"]["schemas"].pop(name, None)
        return self.openapi_schema or {}


def _unavailable(request: Request, message: str, headers: dict[str, str]) -> JSONResponse:
    return error_response(request.scope, 503, message, headers=headers)
