"""Ways in which the endpoint answers, good and bad.

A behaviour is handed the exchange and says whether it dealt with it; if not, the next one is asked. Whatever accepts
events before it fails stands for the answer that was lost on its way back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.ingest_server import Exchange

Behaviour = Callable[["Exchange"], bool]

_CODES = {400: "VALIDATION_ERROR", 401: "UNAUTHORIZED", 404: "NOT_FOUND", 409: "CONFLICT", 429: "RATE_LIMITED"}


def error_body(status: int, message: str = "on purpose") -> bytes:
    """An error in the vendor's form."""
    code = _CODES.get(status, "INTERNAL_ERROR")
    return json.dumps({"error": {"code": code, "message": message, "docs_url": "https://docs.sluice.sh"}}).encode()


def ok(exchange: Exchange) -> bool:
    """Accept everything and say so."""
    exchange.send(200, exchange.accept())
    return True


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes | str | None = None) -> Behaviour:
    """Answer with any status; nothing is accepted, not even with a 2xx."""

    def behave(exchange: Exchange) -> bool:
        content = error_body(code) if body is None else body.encode() if isinstance(body, str) else body
        exchange.send(code, content, headers)
        return True

    return behave


def too_many(retry_after: str | None = "1") -> Behaviour:
    """429 with a Retry-After, in seconds or as an HTTP date."""
    return status(429, {"Retry-After": retry_after} if retry_after is not None else None)


def html(code: int = 200) -> Behaviour:
    """A proxy's page where an answer should be; nothing is accepted."""
    return status(code, {"Content-Type": "text/html"}, "<html><body>Please sign in</body></html>")


def rubbish(body: bytes | str = b'{"accepted": "many", "rejec') -> Behaviour:
    """200 with something that is no answer; nothing is accepted."""
    return status(200, body=body)


def reset_before(exchange: Exchange) -> bool:
    """The connection is reset before anything was accepted or answered."""
    exchange.reset()
    return True


def lost_answer(exchange: Exchange) -> bool:
    """The events are accepted, then the connection is reset: the client cannot know."""
    exchange.accept()
    exchange.reset()
    return True


def reset_mid_answer(exchange: Exchange) -> bool:
    """The events are accepted and the answer breaks off in its middle."""
    exchange.send_half(200, exchange.accept())
    exchange.reset()
    return True


def hangs(*, accepted: bool = False) -> Behaviour:
    """The request is read and never answered, until `endpoint.release()`; then the connection is reset."""

    def behave(exchange: Exchange) -> bool:
        if accepted:
            exchange.accept()
        exchange.wait_for_release()
        exchange.reset()
        return True

    return behave


def drips(seconds_per_byte: float = 0.02) -> Behaviour:
    """The events are accepted and the answer comes byte by byte."""

    def behave(exchange: Exchange) -> bool:
        exchange.send_slowly(200, exchange.accept(), seconds_per_byte)
        return True

    return behave


def drips_headers(seconds_per_byte: float = 0.02) -> Behaviour:
    """The events are accepted and the answer is one header that comes byte by byte, without an end."""

    def behave(exchange: Exchange) -> bool:
        exchange.accept()
        exchange.send_headers_without_an_end(seconds_per_byte)
        return True

    return behave


def limits(most_bytes: int) -> Behaviour:
    """413 for bodies above a size that nobody told the client."""

    def behave(exchange: Exchange) -> bool:
        if len(exchange.request.raw) <= most_bytes:
            return False
        exchange.send(413, error_body(413, "the body is too large"))
        return True

    return behave


def poisoned_by(predicate: Callable[[dict[str, Any]], bool], code: int = 400, page: bytes | None = None) -> Behaviour:
    """400 for the whole batch as soon as one of its events fits the predicate; with `page`, as a firewall says it."""

    def behave(exchange: Exchange) -> bool:
        if not any(predicate(event) for event in exchange.request.events):
            return False
        exchange.send(code, page or error_body(code, "one of the events is not valid"))
        return True

    return behave


def rejects(predicate: Callable[[dict[str, Any]], bool]) -> Behaviour:
    """200, with the events that fit the predicate counted as rejected and not taken."""

    def behave(exchange: Exchange) -> bool:
        exchange.send(200, exchange.accept(reject=predicate))
        return True

    return behave


def truncates(keep: int) -> Behaviour:
    """200, with only the first `keep` events taken: the daily limit was reached within the batch."""

    def behave(exchange: Exchange) -> bool:
        exchange.send(200, exchange.accept(keep=keep))
        return True

    return behave
