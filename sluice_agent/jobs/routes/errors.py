"""Error responses of ``/v1``: ``{"error": {"code", "message", "details"?: […]}, "request_id"}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import Scope

from sluice_agent.server.errors import CHALLENGE, RefusedError

REQUEST_ID = "sluice_agent.request_id"
"""The key in a scope of the request's id."""

_CODES = {
    400: "validation_error",
    413: "payload_too_large",
    429: "rate_limited",
    500: "internal_error",
}
"""Codes that are not HTTP's own phrase."""

_PREFIX = "Value error, "  # pydantic's, before the message of a validator


def register_errors(app: FastAPI) -> None:
    """Make `app` answer every error in the format of ``/v1``."""

    @app.exception_handler(RefusedError)
    def on_refused(request: Request, refusal: RefusedError) -> JSONResponse:
        details = [detail((name,), message) for name, message in (refusal.details or {}).items()]
        return error_response(request.scope, refusal.status, refusal.message, details, refusal.headers)

    @app.exception_handler(HTTPException)
    def on_http_exception(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(sorted(_methods_of(app, request.scope)))
        return error_response(request.scope, error.status_code, f"{error.detail}.", headers=headers)

    @app.exception_handler(RequestValidationError)
    def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        details = [detail(fault["loc"][1:], fault["msg"]) for fault in error.errors()]
        return error_response(request.scope, 400, "The request is not valid.", details)


def _methods_of(app: FastAPI, scope: Scope) -> set[str]:
    """Return the methods of all routes with the path of a request. The framework names those of one."""
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    described = app.openapi()["paths"]
    matching = [path] if path in described else [name for name in described if compile_path(name)[0].match(path)]
    return {method.upper() for name in matching for method in described[name]}


def error_response(
    scope: Scope,
    status: int,
    message: str,
    details: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return an error of the request with this `scope`. A 401 names the scheme by which a client can authenticate."""
    code = _CODES.get(status) or HTTPStatus(status).phrase.lower().replace(" ", "_")
    error: dict[str, Any] = {"code": code, "message": message}
    if details:
        error["details"] = list(details)
    challenge = CHALLENGE if status == HTTPStatus.UNAUTHORIZED else {}
    body = {"error": error, "request_id": scope[REQUEST_ID]}
    return JSONResponse(body, status, headers={**challenge, **(headers or {})})


def detail(location: Sequence[object], message: str) -> str:
    """Return a fault as a line: where it is, and what is wrong there, without pydantic's prefix."""
    field = ".".join(map(str, location))
    message = message.removeprefix(_PREFIX)
    return f"{field}: {message}" if field else message
