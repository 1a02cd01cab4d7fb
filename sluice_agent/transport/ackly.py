"""Ackly as a destination: one event a request for each job that has ended, with no detection of duplicates there."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from sluice_agent.transport.http import HttpClient, Response, UnreachableError, noop
from sluice_agent.transport.responses import (
    LONGEST_WAIT,
    Refused,
    Settled,
    TryAgain,
    Unanswered,
    Verdict,
    classify,
    foreign_response_text,
    object_in,
    retry_after,
    retry_every_minute,
    text_of,
)
from sluice_agent.transport.selector import JobFilter

_ADDRESS = "ACKLY_URL"
_CREATED = 201
_MONTHLY_LIMIT = 429
_GATEWAY_TIMEOUTS = frozenset({504, 524})  # the second is Cloudflare's
_SHORTEST_WAIT = 1.0  # seconds: one that is to come sooner backs off on top, or it would never let up
_LONGEST_ERROR = 500  # characters of it in the message; `metadata` has it whole
_TELLING = ("queue", "workerId", "attempt", "maxRetries", "error", "stacktrace")
_EXTENSIONS = ("rootId", "parentId", "periodicTask", "celeryState", "terminated", "signum", "expired", "eventId")
_VERBS = {"completed": "succeeded", "failed": "failed", "cancelled": "was cancelled"}


class AcklyEndpoint:
    """`POST {url}` with a kept connection. `job_filter` says the ends of which jobs are told."""

    name = "ackly"
    knows_duplicates = False

    def __init__(self, url: str, ingest_key: str, job_filter: JobFilter) -> None:
        self.job_filter: JobFilter | None = job_filter
        self._http = HttpClient(url, {"Authorization": f"Bearer {ingest_key}"})
        self.last_response = ""
        """The status and the body of the latest answer."""

    def send(self, lines: list[bytes], on_leaving: Callable[[], None] = noop) -> Verdict:
        """Send the one event in `lines`, and say what became of it; `on_leaving` as in `HttpClient.post`."""
        [line] = lines
        try:
            body = json.dumps(ackly_event(json.loads(line))).encode()
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            self.last_response = f"not sent: it can't be told to Ackly ({type(error).__name__}: {error})"
            return Refused()
        try:
            response = self._http.post(body, {}, on_leaving)
        except UnreachableError as error:
            return Unanswered(str(error)) if error.may_have_arrived else TryAgain(str(error))
        self.last_response = text_of(response)
        return _verdict(response, datetime.now(timezone.utc))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


def ackly_event(event: dict[str, Any]) -> dict[str, Any]:
    """A job's end as Ackly takes it. Durations are milliseconds; what is not known is absent.

    Raises KeyError, TypeError or AttributeError where `event` is no job's.
    """
    job = event["job"]
    extensions = job.get("extensions") or {}
    metadata = {name: job[name] for name in _TELLING if name in job}
    metadata |= {name: extensions[name] for name in _EXTENSIONS if name in extensions}
    if "workerId" in metadata:
        metadata["worker"] = metadata.pop("workerId")
    told: dict[str, Any] = {
        "status": _status(job),
        "message": _message(job),
        "eventType": job["name"],
        "metadata": metadata,
    }
    if "externalId" in job:
        told["externalId"] = job["externalId"]
    duration = _milliseconds(job.get("startedAt"), job.get("completedAt"))
    if duration is not None:
        told["durationMs"] = duration
    return told


def _status(job: dict[str, Any]) -> str:
    """A job that completed in a later attempt is a partial success: something went wrong on the way."""
    if job["state"] != "completed":
        return "failure"
    return "partial" if _attempt(job) > 1 else "success"


def _message(job: dict[str, Any]) -> str:
    attempt = _attempt(job)
    message = f"{job['name']} {_VERBS.get(job['state'], job['state'])}"
    if attempt > 1:
        message += f" in attempt {attempt}"
    error = job.get("error")
    return f"{message}: {str(error)[:_LONGEST_ERROR]}" if error else message


def _attempt(job: dict[str, Any]) -> int:
    attempt = job.get("attempt")
    return attempt if isinstance(attempt, int) else 1


def _milliseconds(start: Any, end: Any) -> float | None:
    if start is None or end is None:
        return None
    try:
        began, ended = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (start, end))
        seconds = (ended - began).total_seconds()
    except (ValueError, TypeError, AttributeError):  # a leap second, or no time at all
        return None
    return max(round(seconds * 1000, 3), 0.0)


def _verdict(response: Response, now: datetime) -> Verdict:
    """What is answered is never sent again unless the answer says that it was not taken."""
    if response.status == _CREATED:
        return Settled(1, 0, 0)
    if response.status == _MONTHLY_LIMIT:
        wait = retry_after(response.headers.get("retry-after"), now)
        wait = LONGEST_WAIT if wait is None else wait
        return TryAgain("429: Ackly's monthly limit is reached, or its pace", wait=wait, exact=wait >= _SHORTEST_WAIT)
    if response.status in _GATEWAY_TIMEOUTS:
        return Unanswered(text_of(response)[:200])
    if 200 <= response.status < 300 and object_in(response.body) is None:
        return retry_every_minute(foreign_response_text(response, _ADDRESS))
    return classify(response, 1, now, _ADDRESS)
