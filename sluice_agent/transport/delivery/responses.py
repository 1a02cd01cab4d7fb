"""A response to a batch, and its classification. Pure: no clock but the one passed in, no file, no connection."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

MAX_WAIT = 3600.0  # seconds: an endpoint that asks for ten hours is tried again within the hour

_TRY_AGAIN = frozenset({408, 425, 429})
_TOO_LARGE = 413
_REFUSED = frozenset({400, 422})
_NOT_IMPLEMENTED = 501
KEY_REFUSED = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Response:
    """The endpoint's response. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Settled:
    """The endpoint has processed the whole batch. Its `answer` is kept only if it has `rejected` some events."""

    delivered: int
    rejected: int
    duplicates: int
    answer: str = ""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Send the same bytes again: after at least `wait` seconds, with a backoff on top unless `wait` is `exact`.

    `until_corrected`: a person must correct the key or the address, the same is sent again every minute.
    `is_foreign`: the answer is that of a proxy, a firewall or a captive portal, and the address may be wrong.
    `remedy`: what a person has to do, in a sentence without a full stop, where that is known.
    """

    reason: str
    wait: float = 0.0
    exact: bool = False
    until_corrected: bool = False
    is_foreign: bool = False
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The endpoint does not accept a body of this size."""

    answer: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The endpoint does not accept some event of the batch."""

    answer: str


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The event may have been taken, and the endpoint does not deduplicate: sending it again may double it."""

    reason: str


FinalVerdict = Settled | TooLarge | Refused | Unanswered
Verdict = FinalVerdict | TryAgain


def classify(response: Response, events: int, now: datetime) -> Verdict:
    """Return the verdict of `response` to a batch of `events` events, at `now` (with a time zone)."""
    status = response.status
    if 200 <= status < 300:
        return _settle(response, events, now)
    reason = f"{status} {_message(response.body)}".rstrip()
    if status == _TOO_LARGE:
        return TooLarge(response_text(response))
    if is_foreign_refusal(response):
        return foreign_response(response, until_corrected=True)
    if status in _REFUSED:
        return Refused(response_text(response))
    if status in _TRY_AGAIN or (status >= 500 and status != _NOT_IMPLEMENTED):
        return TryAgain(reason, wait=retry_after(response.headers.get("retry-after"), now) or 0.0)
    return TryAgain(reason, until_corrected=True)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return the wait of a ``Retry-After`` header (seconds or a date) in seconds, from 0 to an hour; None: none."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = (date.replace(tzinfo=date.tzinfo or timezone.utc) - now).total_seconds()
    return min(max(seconds, 0.0), MAX_WAIT) if math.isfinite(seconds) else None


def foreign_response(response: Response, *, until_corrected: bool = False) -> TryAgain:
    """Return the verdict of a response by a proxy, a firewall or a captive portal in place of the endpoint."""
    reason = f"{response.status} with a body that is not a JSON object"
    return TryAgain(reason, until_corrected=until_corrected, is_foreign=True)


def json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `body`; None where it is not one."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def is_foreign_response(response: Response) -> bool:
    """Return whether the body is not the endpoint's, but a page of a proxy, a firewall or a captive portal."""
    return bool(response.body.strip()) and json_object(response.body) is None


def is_foreign_refusal(response: Response) -> bool:
    """Return whether the request was refused, perhaps not by the endpoint itself."""
    return response.status in _REFUSED and is_foreign_response(response)


def response_text(response: Response) -> str:
    """Return the status and the body as text, for error messages and dead letters."""
    return f"{response.status} {response.body.decode('utf-8', 'replace')}"


def _settle(response: Response, events: int, now: datetime) -> Verdict:
    if not response.body.strip():
        return Settled(events, 0, 0)
    counts = json_object(response.body)
    if counts is None:  # taking its 200 for a delivery would lose the batch silently
        return foreign_response(response)
    if counts.get("error") and "accepted" not in counts:
        return TryAgain(f"{response.status} {_message(response.body)}")
    truncated = _count(counts, "truncated", events)
    if truncated:
        wait = retry_after(response.headers.get("retry-after"), now) or _until_midnight(now)
        return TryAgain(f"the daily limit is reached: {truncated} events wait until it resets", wait=wait, exact=True)
    rejected = _count(counts, "rejected", events)
    duplicates = min(_count(counts, "skipped", events), events - rejected)
    return Settled(events - rejected, rejected, duplicates, response_text(response) if rejected else "")


def _until_midnight(now: datetime) -> float:
    """Return the seconds until the next day begins in UTC, when the daily limit resets; at most an hour."""
    today = now.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    return min((today + timedelta(days=1) - now).total_seconds(), MAX_WAIT)


def _count(counts: dict[str, Any], name: str, max_count: int) -> int:
    value = counts.get(name, 0)
    return min(max(value, 0), max_count) if isinstance(value, int) else 0


def _message(body: bytes) -> str:
    error = (json_object(body) or {}).get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:200] if message else ""
