"""The OpenAPI description of the routes: which errors they answer, and the description as a whole."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from starlette.types import Lifespan

from sluice_agent.server.own_errors import OwnErrorsApp
from sluice_agent.server.routes.parameters import refuse_repeated
from sluice_agent.server.routes.responses import ErrorBody

_ERRORS = {
    400: "A parameter or the body is not valid; `details` names it.",
    401: "A key or a session is needed.",
    403: "The key or the session may not do this.",
    404: "There is nothing under this id.",
    408: "The request took too long.",
    409: "The state does not allow it.",
    413: "The body is too large.",
    415: "The content encoding is not supported.",
    421: "The Host header names another server.",
    429: "The daily limit is used up.",
    500: "The server failed.",
    502: "The broker's answer is lost: it is unknown whether it has the message.",
    503: "The server is busy or shuts down, or the database or the broker is away.",
}
Responses = dict[int | str, dict[str, Any]]


def errors(*statuses: int) -> Responses:
    """Return the description of the errors that a route answers, beside those of all routes."""
    return {
        status: {"model": ErrorBody, "description": _ERRORS[status]} for status in sorted({421, 500, 503, *statuses})
    }


READING = errors(400, 401, 403)
"""The errors of a route that reads."""


ACTING = errors(400, 401, 403, 404, 413, 502)
"""The errors of a route that acts on jobs."""


class DescribedApp(OwnErrorsApp):
    """An application that describes itself at ``/api/openapi.json``."""

    def __init__(self, lifespan: Lifespan[FastAPI]) -> None:
        super().__init__(
            title="sluice-agent serve",
            version=version("sluice-agent"),
            lifespan=lifespan,
            openapi_url="/api/openapi.json",
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,  # a redirect names http, also to who came through a proxy that does TLS
            dependencies=[Depends(refuse_repeated)],
        )
