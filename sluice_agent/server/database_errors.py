"""The answer to a request whose queries failed because the database is away or overloaded: the client's to repeat."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy import exc

from sluice_agent.log import warn_limited
from sluice_agent.server.errors import error_response
from sluice_agent.server.store import UnavailableError
from sluice_agent.server.store.database import is_away, reason_of

_RETRY = {"Retry-After": "5"}  # seconds: a restart of PostgreSQL takes as long


Respond = Callable[[Request, str, dict[str, str]], JSONResponse]
"""Returns the response to a request, with a message and headers."""


def _respond(_: Request, message: str, headers: dict[str, str]) -> JSONResponse:
    return error_response(503, message, headers=headers)


def register_database_errors(app: FastAPI, respond: Respond = _respond) -> None:
    """Make `app` answer 503, by `respond`, while the database can't be used. Any other error of it stays a fault of the
    server."""

    @app.exception_handler(UnavailableError)
    def on_unavailable(request: Request, error: Exception) -> JSONResponse:
        return respond(request, f"The database can't be used now: {error}.", _RETRY)

    @app.exception_handler(exc.DBAPIError)
    @app.exception_handler(exc.TimeoutError)
    def on_error(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, exc.DBAPIError) and not is_away(error):
            raise error
        message = "%s %s: the database can't be used (%s)"
        warn_limited("database", message, request.method, request.url.path, reason_of(error))
        return respond(request, "The database can't be used now: try again in a few seconds.", _RETRY)
