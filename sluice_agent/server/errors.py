"""Error responses of the API, all of one form: ``{"error": {"code", "message", "docs_url", "details"?}}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

DOCS_URL = "https://docs.sluice.sh/troubleshooting/api-errors"
# Other codes are HTTP's own phrase; Python's phrase for 413 has changed between versions.
_CODES = {400: "VALIDATION_ERROR", 413: "PAYLOAD_TOO_LARGE", 500: "INTERNAL_ERROR"}
Details = Sequence[Mapping[str, str]]


class RefusedError(Exception):
    """A request that is answered with an error: `status`, a readable message, and `details` of ``field, message``."""

    def __init__(self, status: int, message: str, details: Details | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details


def register_error_handlers(app: FastAPI) -> None:
    """Make `app` answer every error in the one format."""

    @app.exception_handler(RefusedError)
    def on_refused(_: Request, refusal: RefusedError) -> JSONResponse:
        return error_response(refusal.status, refusal.message, refusal.details)

    @app.exception_handler(HTTPException)
    def on_http_exception(_: Request, error: HTTPException) -> JSONResponse:
        return error_response(error.status_code, f"{error.detail}.", headers=error.headers)

    @app.exception_handler(RequestValidationError)
    def on_invalid_parameter(_: Request, error: RequestValidationError) -> JSONResponse:
        details = [{"field": str(fault["loc"][-1]), "message": str(fault["msg"])} for fault in error.errors()]
        return error_response(400, "A parameter is not valid.", details)


def internal_error_response() -> JSONResponse:
    """Return the response to a request on which the server itself failed."""
    return error_response(500, "The server failed; its log has the reason.")


def shutdown_response() -> JSONResponse:
    """Return the response to a request that a shutdown interrupts."""
    return error_response(503, "The server is shutting down.", headers={"Connection": "close"})


def error_response(
    status: int, message: str, details: Details | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return an error in the API's format."""
    code = _CODES.get(status) or HTTPStatus(status).phrase.upper().replace(" ", "_")
    error = {"code": code, "message": message, "docs_url": DOCS_URL}
    optional = {"details": [dict(detail) for detail in details]} if details else {}
    return JSONResponse({"error": error | optional}, status, headers=dict(headers or {}))
