"""Ackly: one event a request for each job that has ended, with no detection of duplicates there."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sluice_agent.settings import key_text
from sluice_agent.transport.delivery.destinations.base import Destination, Limits, Request, UnsendableError
from sluice_agent.transport.delivery.responses import (
    MAX_WAIT,
    Response,
    Settled,
    TryAgain,
    Unanswered,
    Verdict,
    classify,
    foreign_response,
    json_object,
    response_text,
    retry_after,
)
from sluice_agent.transport.journal.line_selector import JobFilter

_MAX_LINES = 1  # every event is accounted for before the next is sent, as Ackly does not deduplicate
_MAX_BYTES = 1_000_000  # read at once
_CREATED = 201
_MONTHLY_LIMIT = 429
_GATEWAY_TIMEOUTS = frozenset({504, 524})  # the second is Cloudflare's
_MIN_EXACT_WAIT = 1.0  # seconds: a shorter wait has a backoff on top, or the requests would never slow down
_MAX_ERROR = 500  # characters of the error in the message; `metadata` has it whole
_JOB_FIELDS = ("queue", "workerId", "attempt", "maxRetries", "error", "stacktrace")
_EXTENSIONS = ("rootId", "parentId", "periodicTask", "celeryState", "terminated", "signum", "expired", "eventId")
_VERBS = {"completed": "succeeded", "failed": "failed", "cancelled": "was cancelled"}


def ackly_event(event: dict[str, Any]) -> dict[str, Any]:
    """Return a job's end in Ackly's format. Durations are in milliseconds; unknown fields are absent.

    Raises KeyError, TypeError or AttributeError where `event` is no job's.
    """
    job = event["job"]
    extensions = job.get("extensions") or {}
    metadata = {name: job[name] for name in _JOB_FIELDS if name in job}
    metadata |= {name: extensions[name] for name in _EXTENSIONS if name in extensions}
    if "workerId" in metadata:
        metadata["worker"] = metadata.pop("workerId")
    body: dict[str, Any] = {
        "status": _status(job),
        "message": _message(job),
        "eventType": job["name"],
        "metadata": metadata,
    }
    if "externalId" in job:
        body["externalId"] = job["externalId"]
    duration = _milliseconds(job.get("startedAt"), job.get("completedAt"))
    if duration is not None:
        body["durationMs"] = duration
    return body


def _status(job: dict[str, Any]) -> str:
    """Return Ackly's status. A job that completed in a later attempt is a partial success: an attempt has failed."""
    if job["state"] != "completed":
        return "failure"
    return "partial" if _attempt(job) > 1 else "success"


def _message(job: dict[str, Any]) -> str:
    attempt = _attempt(job)
    message = f"{job['name']} {_VERBS.get(job['state'], job['state'])}"
    if attempt > 1:
        message += f" in attempt {attempt}"
    error = job.get("error")
    return f"{message}: {str(error)[:_MAX_ERROR]}" if error else message


def _attempt(job: dict[str, Any]) -> int:
    attempt = job.get("attempt")
    return attempt if isinstance(attempt, int) else 1


def _milliseconds(start: Any, end: Any) -> float | None:
    if start is None or end is None:
        return None
    try:
        started_at, ended_at = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (start, end))
        seconds = (ended_at - started_at).total_seconds()
    except (ValueError, TypeError, AttributeError):  # a leap second, or no timestamp at all
        return None
    return max(round(seconds * 1000, 3), 0.0)


def _encode(lines: list[bytes]) -> Request:
    [line] = lines
    try:
        return Request(json.dumps(ackly_event(json.loads(line))).encode())
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UnsendableError(f"Ackly's format can't hold this event ({type(error).__name__}: {error})") from error


def _classify(response: Response, events: int, now: datetime) -> Verdict:
    """Classify Ackly's response. An event is sent again only if the response shows that Ackly did not take it."""
    if response.status == _CREATED:
        return Settled(events, 0, 0)
    if response.status == _MONTHLY_LIMIT:
        wait = retry_after(response.headers.get("retry-after"), now)
        wait = MAX_WAIT if wait is None else wait
        return TryAgain("429: Ackly's monthly limit is reached, or its pace", wait=wait, exact=wait >= _MIN_EXACT_WAIT)
    if response.status in _GATEWAY_TIMEOUTS:
        return Unanswered(response_text(response)[:200])
    if 200 <= response.status < 300 and json_object(response.body) is None:
        return foreign_response(response, until_corrected=True)
    return classify(response, events, now)


ACKLY = Destination(
    name="ackly",
    key_variable="ACKLY_INGEST_KEY",
    url_variable="ACKLY_URL",
    key=lambda settings: key_text(settings.ackly_ingest_key),
    url=lambda settings: settings.ackly_url,
    limits=lambda _: Limits(_MAX_LINES, _MAX_BYTES),
    job_filter=lambda settings: JobFilter(settings.ackly_states, settings.ackly_tasks),
    encode=_encode,
    classify=_classify,
    probe=b"{}",  # no event: Ackly answers 400 if the key is right, and ingests nothing
    deduplicates=False,
    needs_connection=False,
)
