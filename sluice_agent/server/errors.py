"""How the API says no: ``{"error": {"code", "message", "docs_url", "details"?}}``, whatever went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

DOCS_URL = "https://docs.sluice.sh/troubleshooting/api-errors"
# Elsewhere the code is HTTP's own phrase; that of 413 has changed with the years.
_CODES = {400: "VALIDATION_ERROR", 413: "PAYLOAD_TOO_LARGE", 500: "INTERNAL_ERROR"}
Details = Sequence[Mapping[str, str]]


class RefusedError(Exception):
    """A request that is answered by an error: `status`, a message for people, and `details` of ``field, message``."""

    def __init__(self, status: int, message: str, details: Details | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details


def register_error_handlers(app: FastAPI) -> None:
    """Makes `app` answer every fault in the one format."""

    @app.exception_handler(RefusedError)
    def refused(_: Request, refusal: RefusedError) -> JSONResponse:
        return answer(refusal.status, refusal.message, refusal.details)

    @app.exception_handler(HTTPException)
    def of_the_protocol(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, f"{error.detail}.", headers=error.headers)

    @app.exception_handler(RequestValidationError)
    def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        details = [{"field": str(fault["loc"][-1]), "message": str(fault["msg"])} for fault in error.errors()]
        return answer(400, "A parameter is not allowed as it is.", details)


def unforeseen() -> JSONResponse:
    """The answer where the server itself is at fault."""
    return answer(500, "The server failed; its log says why.")


def ending() -> JSONResponse:
    """The answer to a request for which there is no time any more."""
    return answer(503, "The server ends.", headers={"Connection": "close"})


def answer(
    status: int, message: str, details: Details | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error as the API answers it."""
    code = _CODES.get(status) or HTTPStatus(status).phrase.upper().replace(" ", "_")
    error = {"code": code, "message": message, "docs_url": DOCS_URL}
    more = {"details": [dict(detail) for detail in details]} if details else {}
    return JSONResponse({"error": error | more}, status, headers=dict(headers or {}))
