"""The settings of a job in words. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sluice_agent.jobs.celery_target import is_task, target_of
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.definitions.views import masked
from sluice_agent.jobs.json_text import indented
from sluice_agent.server.pages import formats

NAMES = {
    "group_id": "Group",
    "name": "Name",
    "slug": "Slug",
    "description": "Description",
    "cron": "Cron expression",
    "payload_schema": "Payload schema",
    "tags": "Tags",
    "endpoint_url": "Endpoint",
    "fallback_endpoint_url": "Fallback endpoint",
    "max_attempts": "Attempts at most",
    "timeout_secs": "Time for an attempt",
    "max_concurrency": "Runs at a time",
    "execution_window_cron": "Execution window",
    "timezone": "Time zone",
    "rate_limit_max": "Triggers at most",
    "rate_limit_window_secs": "Window of that limit",
    "max_concurrency_per_key": "Runs at a time, of one concurrency key",
    "rate_limit_keys": "Named limits",
    "default_run_metadata": "Metadata of each run",
    "dedup_window_secs": "Deduplication window",
    "webhook_url": "Webhook",
    "webhook_secret": "Secret of signatures",
    "run_ttl_secs": "Time to begin",
    "retry_strategy": "Retry strategy",
    "retry_delays_secs": "Delays of retries",
    "environment_id": "Environment",
    "version_policy": "Version of runs that wait",
    "backwards_compatible": "Compatible with the version before",
    "cron_payload": "Payload of cron’s runs",
    "cron_overlap_policy": "While the last firing still runs",
    "cron_grace_secs": "Grace of missed firings",
}
"""What settings are called on pages. One that is not here is named by its key."""

_STRATEGIES = {
    "": "1 s, 2 s, 4 s and so on, up to an hour",
    "exponential": "1 s, 2 s, 4 s and so on, up to an hour",
    "linear": "1 s, 2 s, 3 s and so on",
    "fixed": "1 s each",
}
_OVERLAPS = {
    "": "fire all the same",
    "allow": "fire all the same",
    "skip": "skip the firing",
    "cancel_running": "cancel the run that goes on",
}
_POLICIES = {
    "pin": "Runs keep the version of their trigger.",
    "latest": "Runs that have not started take the newest version.",
    "minor": "Runs that have not started take newer versions as long as these are compatible.",
}


def name_of(setting: str) -> str:
    """Return what a setting is called."""
    return NAMES.get(setting) or formats.label(setting)


def value_text(settings: JobSettings, name: str) -> str:
    """Return a setting as a text; of a secret what may be shown. Empty if it is not set."""
    value: Any = getattr(settings, name)
    if name == "webhook_secret":
        return masked(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        return indented(value) if value else ""
    return "" if value in ("", 0) else str(value)


def sentences(settings: JobSettings) -> list[tuple[str, str]]:
    """Return what a job does, as labels and sentences; only what its settings ask for."""
    return [
        *_requests(settings),
        *_attempts(settings),
        *_limits(settings),
        *_times(settings),
        *_rest(settings),
    ]


def _requests(settings: JobSettings) -> Iterator[tuple[str, str]]:
    target = target_of(settings.endpoint_url) if is_task(settings.endpoint_url) else None
    if target is None:
        yield "Endpoint", f"POST {settings.endpoint_url}"
    else:
        queue = f", to the queue {target.queue}" if target.queue else ""
        yield "Celery task", f"{target.task}{queue}"
    if settings.fallback_endpoint_url:
        yield "Fallback", f"POST {settings.fallback_endpoint_url}, within the same attempt, if the endpoint fails."


def _attempts(settings: JobSettings) -> Iterator[tuple[str, str]]:
    limit = _seconds(settings.timeout_secs)
    if settings.max_attempts == 1:
        yield "Attempts", f"One, of {limit} at most."
        return
    if settings.retry_strategy == "custom" and settings.retry_delays_secs:
        delays = ", ".join(_seconds(delay) for delay in settings.retry_delays_secs[:10])
        more = ", …" if len(settings.retry_delays_secs) > 10 else ""
        between = f"{delays}{more}; the last delay repeats"
    else:
        between = _STRATEGIES.get(settings.retry_strategy, _STRATEGIES[""])
    yield "Attempts", f"{settings.max_attempts} at most, of {limit} each. Between them: {between}."


def _limits(settings: JobSettings) -> Iterator[tuple[str, str]]:
    at_a_time = []
    if settings.max_concurrency:
        at_a_time.append(f"{formats.counted(settings.max_concurrency, 'run')} at a time")
    if settings.max_concurrency_per_key:
        at_a_time.append(f"{settings.max_concurrency_per_key} of each concurrency key")
    if at_a_time:
        yield "Concurrency", f"At most {', '.join(at_a_time)}. Others wait."
    if settings.rate_limit_max and settings.rate_limit_window_secs:
        most, window = formats.counted(settings.rate_limit_max, "trigger"), _seconds(settings.rate_limit_window_secs)
        yield "Rate", f"At most {most} in {window}. Others are refused with 429."
    if settings.rate_limit_keys:
        limits = (
            f"{limit['name']}: {limit['max']} starts in {_seconds(limit['window_secs'])}"
            for limit in settings.rate_limit_keys
        )
        yield "Named limits", f"{'; '.join(limits)}. All jobs with a limit share it; others wait."
    if settings.dedup_window_secs:
        window = _seconds(settings.dedup_window_secs)
        yield "Deduplication", f"A trigger with the payload of a run of the last {window} makes no second run."


def _times(settings: JobSettings) -> Iterator[tuple[str, str]]:
    zone = settings.timezone or "UTC"
    if settings.cron:
        overlap = _OVERLAPS.get(settings.cron_overlap_policy, settings.cron_overlap_policy)
        yield "Schedule", f"{settings.cron} in {zone}. While the last firing still runs: {overlap}."
    if settings.execution_window_cron:
        yield "Execution window", f"Attempts begin only in minutes of {settings.execution_window_cron} in {zone}."
    if settings.run_ttl_secs:
        yield "Expiry", f"A run that has not begun within {_seconds(settings.run_ttl_secs)} expires."


def _rest(settings: JobSettings) -> Iterator[tuple[str, str]]:
    if settings.webhook_url:
        signed = "signed" if settings.webhook_secret else "not signed"
        yield "Webhook", f"The end of each run is sent to {settings.webhook_url}, {signed}."
    elif settings.webhook_secret:
        yield "Signature", "Requests are signed."
    yield "Versions", _POLICIES.get(settings.version_policy, settings.version_policy)
    if settings.tags:
        yield "Tags", ", ".join(f"{key}: {value}" if value else key for key, value in settings.tags.items())
    for name in ("group_id", "environment_id"):
        if getattr(settings, name):
            yield name_of(name), getattr(settings, name)


def _seconds(seconds: int) -> str:
    return formats.duration(seconds * 1_000).replace(".00 s", " s").replace(".0 s", " s")
