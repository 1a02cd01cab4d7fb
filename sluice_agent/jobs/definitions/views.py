"""Jobs as they are shown: without what is empty, and of a secret no more than its end."""

from __future__ import annotations

from typing import Any

from sluice_agent.jobs.definitions.dependencies import Dependency
from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.definitions.versions import JobVersion
from sluice_agent.server.timestamps import to_datetime

_SHOWN_CHARACTERS = 4
_LONG_SECRET = 12  # characters from which the end of a secret is no help to guess the rest
_OF_VERSIONS = (
    "name",
    "slug",
    "description",
    "cron",
    "payload_schema",
    "tags",
    "endpoint_url",
    "fallback_endpoint_url",
    "max_attempts",
    "timeout_secs",
    "webhook_url",
    "webhook_secret",
    "run_ttl_secs",
)
"""The settings that a version shows."""


def job_view(of: Job) -> dict[str, Any]:
    """Return a job as it is shown."""
    settings = _shown(of.settings)
    shown = {
        "id": of.id,
        "project_id": of.project_id,
        **{name: settings[name] for name in JobSettings.model_fields if name in settings},
        "version_id": of.version_id,
        "created_by": of.created_by,
        "updated_by": of.updated_by,
    }
    return {
        **{name: value for name, value in shown.items() if value},
        "enabled": of.enabled,
        "version": of.version,
        **({} if of.paused_at is None else {"paused_at": time_text(of.paused_at)}),
        "created_at": time_text(of.created_at),
        "updated_at": time_text(of.updated_at),
    }


def version_view(of: JobVersion) -> dict[str, Any]:
    """Return a version of a job as it is shown."""
    settings = _shown(of.settings)
    shown = {name: settings[name] for name in _OF_VERSIONS if settings[name]}
    if of.settings.backwards_compatible:
        shown["backwards_compatible"] = True
    common = {"id": of.id, "version_id": of.id, "job_id": of.job_id, "version": of.version}
    return {**common, **shown, "created_at": time_text(of.created_at)}


def dependency_view(of: Dependency) -> dict[str, Any]:
    """Return a dependency as it is shown."""
    return {
        "id": of.id,
        "job_id": of.job_id,
        "depends_on_job_id": of.depends_on_job_id,
        "condition": of.condition,
        "created_at": time_text(of.created_at),
    }


def masked(secret: str) -> str:
    """Return what is shown of a secret."""
    if not secret:
        return ""
    return "****" + (secret[-_SHOWN_CHARACTERS:] if len(secret) >= _LONG_SECRET else "")


def time_text(moment: int) -> str:
    """Return the RFC 3339 text of microseconds since 1970."""
    return to_datetime(moment).isoformat().replace("+00:00", "Z")


def _shown(settings: JobSettings) -> dict[str, Any]:
    return {**dict(settings), "webhook_secret": masked(settings.webhook_secret)}
