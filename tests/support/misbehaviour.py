"""Behaviours of the endpoint, good and bad.

A behaviour is called with the exchange and returns whether it handled it; if not, the next one is called. One that
accepts events before it fails stands for an answer that was lost on its way back.
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
    """Return an error body in the vendor's format."""
    code = _CODES.get(status, "INTERNAL_ERROR")
    return json.dumps({"error": {"code": code, "message": message, "docs_url": "https://docs.sluice.sh"}}).encode()


def ok(exchange: Exchange) -> bool:
    """Accept everything, and answer 200."""
    exchange.send(200, exchange.accept())
    return True


def status(code: int, headers: Mapping[str, str] | None = None, body: bytes | str | None = None) -> Behaviour:
    """Answer with a status and accept nothing, not even with a 2xx."""

    def behave(exchange: Exchange) -> bool:
        content = error_body(code) if body is None else body.encode() if isinstance(body, str) else body
        exchange.send(code, content, headers)
        return True

    return behave


def too_many(retry_after: str | None = "1") -> Behaviour:
    """Answer 429 with a Retry-After, in seconds or as an HTTP date."""
    return status(429, {"Retry-After": retry_after} if retry_after is not None else None)


def html(code: int = 200) -> Behaviour:
    """Answer with a proxy's HTML page in place of JSON, and accept nothing."""
    return status(code, {"Content-Type": "text/html"}, "<html><body>Please sign in</body></html>")


def rubbish(body: bytes | str = b'{"accepted": "many", "rejec') -> Behaviour:
    """Answer 200 with a body that is no valid answer, and accept nothing."""
    return status(200, body=body)


def reset_before(exchange: Exchange) -> bool:
    """Reset the connection before any event is accepted or answered."""
    exchange.reset()
    return True


def lost_answer(exchange: Exchange) -> bool:
    """Accept the events, then reset the connection: the client cannot know that they were accepted."""
    exchange.accept()
    exchange.reset()
    return True


def reset_mid_answer(exchange: Exchange) -> bool:
    """Accept the events, and reset the connection in the middle of the answer."""
    exchange.send_half(200, exchange.accept())
    exchange.reset()
    return True


def hangs(*, accepted: bool = False) -> Behaviour:
    """Read the request and don't answer, until `endpoint.release()`; then reset the connection."""

    def behave(exchange: Exchange) -> bool:
        if accepted:
            exchange.accept()
        exchange.wait_for_release()
        exchange.reset()
        return True

    return behave


def hangs_in_body(*, has_length: bool = True) -> Behaviour:
    """Send the head and the beginning of the body, and hang until `endpoint.release()`; then reset the connection."""

    def behave(exchange: Exchange) -> bool:
        exchange.send_half(200, b'{"a": "a body that goes on"}', has_length=has_length)
        exchange.wait_for_release()
        exchange.reset()
        return True

    return behave


def drips(seconds_per_byte: float = 0.02) -> Behaviour:
    """Accept the events, and send the answer byte by byte."""

    def behave(exchange: Exchange) -> bool:
        exchange.send_slowly(200, exchange.accept(), seconds_per_byte)
        return True

    return behave


def drips_headers(seconds_per_byte: float = 0.02) -> Behaviour:
    """Accept the events, and answer with one endless header, sent byte by byte."""

    def behave(exchange: Exchange) -> bool:
        exchange.accept()
        exchange.send_headers_without_an_end(seconds_per_byte)
        return True

    return behave


def on_path(path: str, behaviour: Behaviour) -> Behaviour:
    """Behave like that on one path only."""
    return lambda exchange: exchange.request.path == path and behaviour(exchange)


def limits(most_bytes: int) -> Behaviour:
    """Answer 413 to bodies above a size that the client does not know."""

    def behave(exchange: Exchange) -> bool:
        if len(exchange.request.raw) <= most_bytes:
            return False
        exchange.send(413, error_body(413, "the body is too large"))
        return True

    return behave


def poisoned_by(predicate: Callable[[dict[str, Any]], bool], code: int = 400, page: bytes | None = None) -> Behaviour:
    """Answer 400 to a batch with an event that matches the predicate; with `page`, as a firewall does."""

    def behave(exchange: Exchange) -> bool:
        if not any(predicate(event) for event in exchange.request.events):
            return False
        exchange.send(code, page or error_body(code, "one of the events is not valid"))
        return True

    return behave


def rejects(predicate: Callable[[dict[str, Any]], bool]) -> Behaviour:
    """Answer 200, with the events that match the predicate counted as rejected and not accepted."""

    def behave(exchange: Exchange) -> bool:
        exchange.send(200, exchange.accept(reject=predicate))
        return True

    return behave


def truncates(keep: int) -> Behaviour:
    """Answer 200 and accept only the first `keep` events: the daily limit was reached within the batch."""

    def behave(exchange: Exchange) -> bool:
        exchange.send(200, exchange.accept(keep=keep))
        return True

    return behave
