"""The answer to a request whose queries failed because the database is away or overloaded: the client's to repeat."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy import exc

from sluice_agent.log import warn_limited
from sluice_agent.server.errors import error_response
from sluice_agent.server.store import UnavailableError
from sluice_agent.server.store.database import is_away

_RETRY = {"Retry-After": "5"}  # seconds: a restart of PostgreSQL takes as long


def register_database_errors(app: FastAPI) -> None:
    """Make `app` answer 503 while the database can't be used. Any other error of it stays a fault of the server."""

    @app.exception_handler(UnavailableError)
    def on_unavailable(_: Request, error: Exception) -> JSONResponse:
        return error_response(503, f"The database can't be used now: {error}.", headers=_RETRY)

    @app.exception_handler(exc.DBAPIError)
    @app.exception_handler(exc.TimeoutError)
    def on_error(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, exc.DBAPIError) and not is_away(error):
            raise error
        reason = str(error.orig if isinstance(error, exc.DBAPIError) else error).strip()
        message = "%s %s: the database can't be used (%s)"
        warn_limited("database", message, request.method, request.url.path, reason)
        return error_response(503, "The database can't be used now: try again in a few seconds.", headers=_RETRY)
