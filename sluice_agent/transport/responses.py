"""What an answer to a batch means for its events. Pure: no clock but the one passed in, no file, no connection."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from sluice_agent.transport.http import Response

LONGEST_WAIT = 3600.0  # seconds: an endpoint that says "in ten hours" is asked again within the hour
_MINUTE = 60.0  # seconds between two tries while the key or the address is wrong

_TRY_AGAIN = frozenset({408, 425, 429})
_TOO_LARGE = 413
_REFUSED = frozenset({400, 422})
_NOT_IMPLEMENTED = 501


@dataclass(frozen=True, slots=True)
class Settled:
    """The endpoint has dealt with the whole batch."""

    delivered: int
    rejected: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The same bytes again: after `wait` seconds at the least, with a backoff on top unless `wait` is `exact`."""

    why: str
    wait: float = 0.0
    exact: bool = False


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The endpoint does not take a body of this size."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Something in the batch is not what the endpoint takes."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """The event may have been taken, and the endpoint does not know duplicates: to send it again may double it."""

    why: str


Verdict = Settled | TryAgain | TooLarge | Refused | Unanswered


def classify(response: Response, events: int, now: datetime, address: str = "SLUICE_API_URL") -> Verdict:
    """What `response` to a batch of `events` events means, at `now` (with a time zone).

    `address` is the variable that holds where it was sent to.
    """
    status = response.status
    if 200 <= status < 300:
        return _settle(response, events, now, address)
    why = f"{status} {_message(response.body)}".rstrip()
    if status == _TOO_LARGE:
        return TooLarge()
    if status in _REFUSED:
        return (
            retry_every_minute(foreign_response_text(response, address)) if is_foreign_response(response) else Refused()
        )
    if status in _TRY_AGAIN or (status >= 500 and status != _NOT_IMPLEMENTED):
        return TryAgain(why, wait=retry_after(response.headers.get("retry-after"), now) or 0.0)
    return retry_every_minute(why)


def retry_after(value: str | None, now: datetime) -> float | None:
    """The wait that a ``Retry-After`` header asks for, in seconds or as a date: 0 to an hour; None: for none."""
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
    return min(max(seconds, 0.0), LONGEST_WAIT) if math.isfinite(seconds) else None


def retry_every_minute(why: str) -> TryAgain:
    """The verdict where a person must mend something: the same again, once a minute."""
    return TryAgain(why, wait=_MINUTE, exact=True)


def foreign_response_text(response: Response, address: str) -> str:
    """What is wrong where a proxy, a firewall or a captive portal has answered in place of the endpoint."""
    return f"{response.status} with a body that is no JSON object: is {address} right?"


def object_in(body: bytes) -> dict[str, Any] | None:
    """The JSON object that `body` holds, if it is one."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_foreign_response(response: Response) -> bool:
    """Whether it is one for people: no endpoint's own, but that of a proxy, a firewall or a captive portal."""
    return bool(response.body.strip()) and object_in(response.body) is None


def is_foreign_refusal(response: Response) -> bool:
    """Whether something that may not be the endpoint refuses what was sent."""
    return response.status in _REFUSED and is_foreign_response(response)


def text_of(response: Response) -> str:
    """The status and the body, for people."""
    return f"{response.status} {response.body.decode('utf-8', 'replace')}"


def _settle(response: Response, events: int, now: datetime, address: str) -> Verdict:
    if not response.body.strip():
        return Settled(events, 0, 0)
    counts = object_in(response.body)
    if counts is None:  # to take its 200 for a delivery would lose the batch quietly
        return TryAgain(foreign_response_text(response, address))
    if counts.get("error") and "accepted" not in counts:
        return TryAgain(f"{response.status} {_message(response.body)}")
    truncated = _count(counts, "truncated", events)
    if truncated:
        wait = retry_after(response.headers.get("retry-after"), now) or _until_midnight(now)
        return TryAgain(f"the daily limit is reached: {truncated} events wait until it resets", wait=wait, exact=True)
    rejected = _count(counts, "rejected", events)
    return Settled(events - rejected, rejected, min(_count(counts, "skipped", events), events - rejected))


def _until_midnight(now: datetime) -> float:
    """Seconds until the next day begins in UTC, which is when a daily limit resets; at most an hour."""
    today = now.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    return min((today + timedelta(days=1) - now).total_seconds(), LONGEST_WAIT)


def _count(counts: dict[str, Any], name: str, most: int) -> int:
    value = counts.get(name, 0)
    return min(max(value, 0), most) if isinstance(value, int) else 0


def _message(body: bytes) -> str:
    error = (object_in(body) or {}).get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:200] if message else ""
