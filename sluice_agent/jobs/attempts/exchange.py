"""The requests of one attempt: one to the endpoint, and at most one to its fallback, within one deadline."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import NoReturn

from sluice_agent.jobs.attempts.answers import FALLBACK, ErrorClass, classify
from sluice_agent.jobs.attempts.headers import secret_headers
from sluice_agent.jobs.attempts.heads import exchange_of
from sluice_agent.jobs.attempts.records import Exchange, Outcome, Spec, Trace
from sluice_agent.lifecycle.redaction import HIDDEN
from sluice_agent.outbound.addresses import Resolve
from sluice_agent.outbound.deadline import Watchdog
from sluice_agent.outbound.http import Answer, Cause, NoAnswerError, Reading, Timeouts, Timing, post
from sluice_agent.outbound.retry_after import seconds_asked

RESULT_BYTES = 1_048_576
"""The most of a successful answer that is read."""

_LONGEST_RESULT = 2 * RESULT_BYTES  # characters of a result that is sent to the server
_ERROR_BYTES = 4_096  # of another answer
_READING = Reading(success=RESULT_BYTES, error=_ERROR_BYTES, is_required=True)
_BUSY_STATUSES = (429, 503)  # whose Retry-After counts
_CLASSES: dict[Cause, ErrorClass] = {
    "address": ErrorClass.CLIENT,
    "network": ErrorClass.TRANSIENT,
    "deadline": ErrorClass.TIMEOUT,
    "aborted": ErrorClass.TRANSIENT,
}


def perform(
    spec: Spec, watchdog: Watchdog, look_up: Resolve | None = None, now: Callable[[], float] = time.time
) -> Outcome:
    """Send the requests of an attempt, and return what has come of them. Never raises for what an endpoint does.

    `watchdog` has the deadline; its context has been entered. `now` returns seconds since 1970.
    """
    begin = time.monotonic()
    headers = {**spec.headers, **secret_headers(spec.secrets)}
    first, exchanges = _request(spec, spec.url, headers, watchdog, look_up, now)
    outcome = first
    if spec.fallback_url and first.error_class in FALLBACK and not first.ends_run and not watchdog.ended_by:
        second, others = _request(spec, spec.fallback_url, spec.headers, watchdog, look_up, now)
        outcome = _with_fallback(first, second)
        exchanges += others
    known = {"total_ms": _milliseconds(time.monotonic() - begin), "exchanges": exchanges}
    return outcome.model_copy(update={"trace": outcome.trace.model_copy(update=known)})


def _request(
    spec: Spec,
    url: str,
    headers: Mapping[str, str],
    watchdog: Watchdog,
    look_up: Resolve | None,
    now: Callable[[], float],
) -> tuple[Outcome, tuple[Exchange, ...]]:
    """Return what has come of a request, and its heads with `debug_mode`."""
    try:
        answer = post(
            url,
            spec.body.encode(),
            headers,
            allows_private=spec.allows_private,
            timeouts=Timeouts(connect=10.0),
            look_up=look_up,
            reading=_READING,
            watchdog=watchdog,
        )
    except NoAnswerError as error:
        outcome = Outcome(error_class=_CLASSES[error.cause], error=_printable(str(error)), trace=_trace(error.timing))
        return outcome, _heads(spec, url, headers, None)
    outcome = _outcome(answer, _text_of(answer, spec.secrets), now())
    return outcome, _heads(spec, url, headers, answer)


def _heads(spec: Spec, url: str, headers: Mapping[str, str], answer: Answer | None) -> tuple[Exchange, ...]:
    if not spec.debug_mode:
        return ()
    answered = (None, None) if answer is None else (answer.status, answer.headers)
    return (exchange_of(url, headers, *answered),)


def _text_of(answer: Answer, secrets: Mapping[str, str]) -> str:
    """Return the body of an answer; an endpoint may repeat what it was sent, also its secrets: they are replaced."""
    text = answer.body.decode("utf-8", "replace")
    escaped = {json.dumps(secret)[1:-1] for secret in secrets.values()}
    forms = {*secrets.values(), *escaped, *(text.replace("/", "\\/") for text in escaped)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, HIDDEN)
        if answer.is_cut:
            text = _without_beginning(text, form)
    return text


def _without_beginning(text: str, secret: str) -> str:
    """Return a text that was cut without the beginning of a secret at its end."""
    longest = next((length for length in range(len(secret) - 1, 0, -1) if text.endswith(secret[:length])), 0)
    return text[: len(text) - longest]


def _outcome(answer: Answer, body: str, now: float) -> Outcome:
    error_class = classify(answer.status)
    trace = _trace(answer.timing)
    if error_class is None:
        result, is_cut = _result(body, is_cut=answer.is_cut)
        return Outcome(status_code=answer.status, result=result, is_result_cut=is_cut, trace=trace)
    text = _printable(body).strip()
    return Outcome(
        status_code=answer.status,
        error_class=error_class,
        error=f"{answer.status}: {text}" if text else f"{answer.status}",
        retry_after_secs=max(seconds_asked(answer.retry_after, now), 0) if answer.status in _BUSY_STATUSES else 0,
        ends_run=answer.headers.get("x-sluice-no-retry", "").strip().lower() == "true",
        trace=trace,
    )


def _with_fallback(first: Outcome, second: Outcome) -> Outcome:
    """Return the outcome of an attempt whose fallback was requested. Its times are those of the endpoint."""
    if second.error_class is None:
        return second.model_copy(update={"used_fallback": True, "trace": first.trace})
    return first.model_copy(
        update={
            "error_class": ErrorClass.TIMEOUT if second.error_class is ErrorClass.TIMEOUT else first.error_class,
            "error": f"{first.error}; the fallback: {second.error}",
            "retry_after_secs": max(first.retry_after_secs, second.retry_after_secs),
            "ends_run": second.ends_run,
            "used_fallback": True,
        }
    )


def _result(text: str, *, is_cut: bool) -> tuple[str | None, bool]:
    """Return a successful body as JSON, and whether it is cut: itself, or a string of what is none. None if it is
    empty.

    A body of control characters is six times as long as JSON. It is cut, as the server would not take it.
    """
    if not text.strip():
        return None, is_cut
    try:
        if not is_cut:
            json.loads(text, parse_constant=_refuse)
            return text, False
    except (ValueError, RecursionError):
        pass
    result = json.dumps(text, ensure_ascii=False)
    if len(result) > _LONGEST_RESULT:
        return json.dumps(text[: _LONGEST_RESULT // 6 - 1], ensure_ascii=False), True
    return result, is_cut


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _printable(text: str) -> str:
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")  # databases do not store it


def _trace(timing: Timing) -> Trace:
    times = [_milliseconds(part) for part in (timing.connect, timing.first_byte, timing.transfer)]
    return Trace(
        dns_ms=_milliseconds(timing.look_up),
        connect_ms=times[0],
        tls_ms=_milliseconds(timing.tls),
        ttfb_ms=times[1],
        transfer_ms=times[2],
        dispatch_ms=sum(times),
    )


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 1) if seconds > 0 else 0
