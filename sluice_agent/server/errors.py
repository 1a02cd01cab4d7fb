"""Error responses of the API, all of one form: ``{"error": {"code", "message", "docs_url", "details"?}}``."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

# Other codes are HTTP's own phrase; Python's phrase for 413 has changed between versions.
_CODES = {400: "VALIDATION_ERROR", 413: "PAYLOAD_TOO_LARGE", 500: "INTERNAL_ERROR"}
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="sluice"'}
"""The header of every 401: how a client can authenticate."""

Details = Mapping[str, str]
"""A message for each field that is wrong."""


class Docs(str, Enum):
    """The pages of the vendor's documentation to which errors refer, by their cause."""

    API_ERRORS = "https://docs.sluice.sh/troubleshooting/api-errors"
    API_KEY = "https://docs.sluice.sh/troubleshooting/api-key"
    AUTH = "https://docs.sluice.sh/troubleshooting/auth"


class RefusedError(Exception):
    """A request that is answered with an error: `status`, a readable message, and a message for each wrong field."""

    def __init__(
        self,
        status: int,
        message: str,
        details: Details | None = None,
        *,
        docs: Docs = Docs.API_ERRORS,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details
        self.docs = docs
        self.headers = headers


def register_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every error in the one format."""

    @app.exception_handler(RefusedError)
    def on_refused(_: Request, refusal: RefusedError) -> JSONResponse:
        return refusal_response(refusal)

    @app.exception_handler(HTTPException)
    def on_http_exception(_: Request, error: HTTPException) -> JSONResponse:
        return error_response(error.status_code, f"{error.detail}.", headers=error.headers)

    @app.exception_handler(RequestValidationError)
    def on_invalid_parameter(_: Request, error: RequestValidationError) -> JSONResponse:
        details: dict[str, str] = {}
        for fault in error.errors():
            details.setdefault(str(fault["loc"][:2][-1]), str(fault["msg"]))  # of a list, not of an item
        return error_response(400, "A parameter is not valid.", details)


def refusal_response(refusal: RefusedError) -> JSONResponse:
    """Return the response that `refusal` describes."""
    return error_response(refusal.status, refusal.message, refusal.details, refusal.headers, refusal.docs)


def internal_error_response() -> JSONResponse:
    """Return the response to a request on which the server itself failed."""
    return error_response(500, "The server failed; its log has the reason.")


def shutdown_response() -> JSONResponse:
    """Return the response to a request that a shutdown interrupts."""
    return error_response(503, "The server is shutting down.", headers={"Connection": "close"})


def error_response(
    status: int,
    message: str,
    details: Details | None = None,
    headers: Mapping[str, str] | None = None,
    docs: Docs = Docs.API_ERRORS,
) -> JSONResponse:
    """Return an error in the API's format. A 401 names the scheme by which a client can authenticate."""
    code = _CODES.get(status) or HTTPStatus(status).phrase.upper().replace(" ", "_")
    error = {"code": code, "message": message, "docs_url": docs.value}
    optional = {"details": dict(details)} if details else {}
    challenge = CHALLENGE if status == HTTPStatus.UNAUTHORIZED else {}
    return JSONResponse({"error": error | optional}, status, headers={**challenge, **(headers or {})})
