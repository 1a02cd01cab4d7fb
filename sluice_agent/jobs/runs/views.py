"""Runs as they are shown: without what is empty, and without the ticket of a worker."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from sluice_agent.jobs.definitions.views import dependency_view, time_text
from sluice_agent.jobs.json_text import Raw, parse
from sluice_agent.jobs.runs.dependencies import Standing
from sluice_agent.jobs.runs.replays import Replay
from sluice_agent.jobs.runs.schedules import Schedule
from sluice_agent.jobs.runs.waiting import Obstacle

_ALWAYS = ("id", "job_id", "project_id", "status", "attempt", "triggered_by", "priority", "job_version", "debug_mode")
_OPTIONAL = (
    "error",
    "parent_run_id",
    "idempotency_key",
    "continuation_of",
    "job_version_id",
    "created_by",
    "batch_id",
    "concurrency_key",
    "task_id",
)
_JSON = ("payload", "result", "metadata", "tags", "execution_trace")
_TIMES = ("fire_at", "scheduled_at", "started_at", "finished_at", "heartbeat_at", "next_retry_at", "expires_at")


def run_view(row: Row[Any]) -> dict[str, Any]:
    """Return a run as it is shown."""
    values = row._mapping
    return {
        **{name: values[name] for name in _ALWAYS},
        "lineage_depth": row.lineage_depth,
        **{name: values[name] for name in _OPTIONAL if values[name]},
        **{name: Raw(values[name]) for name in _JSON if values[name]},
        **{name: time_text(values[name]) for name in _TIMES if values[name] is not None},
        "created_at": time_text(row.created_at),
    }


def progress_view(stored: str) -> dict[str, Any]:
    """Return the progress of a run as it is shown."""
    progress: dict[str, Any] = parse(stored.encode())
    return {**progress, "at": time_text(progress["at"])}


def obstacle_view(obstacle: Obstacle) -> dict[str, Any]:
    """Return what keeps a run from its start as it is shown, but for the sentence."""
    named = {"queue_without_workers": obstacle.queue_without_workers, "waits_for_limit": obstacle.limit}
    paused = {} if obstacle.paused_at is None else {"job_paused_at": time_text(obstacle.paused_at)}
    return {name: value for name, value in named.items() if value is not None} | paused


def replay_view(of: Replay) -> dict[str, Any]:
    """Return a replay as it is shown."""
    wanted = of.wanted
    texts = {
        "created_by": of.who,
        "job_id": wanted.job_id,
        "batch_id": wanted.batch_id,
        "error_class": wanted.error_class,
        "search": wanted.text,
    }
    times = {
        "created_from": wanted.created_from,
        "created_before": wanted.created_before,
        "created_at": of.created_at,
        "finished_at": of.finished_at,
    }
    return {
        "id": of.id,
        "project_id": wanted.project,
        "state": of.state.value,
        "total": of.total,
        "replayed": of.replayed,
        "refused": of.refused,
        **{name: text for name, text in texts.items() if text},
        **{name: time_text(moment) for name, moment in times.items() if moment is not None},
        **({"ids": list(wanted.ids)} if wanted.ids else {}),
        **({"refusals": [refusals._asdict() for refusals in of.refusals]} if of.refusals else {}),
    }


def schedule_view(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as it is shown."""
    of = schedule.job
    settings = {
        "timezone": of.settings.timezone,
        "cron_overlap_policy": of.settings.cron_overlap_policy,
        "cron_grace_secs": of.settings.cron_grace_secs,
        "last_run_id": schedule.last_run_id,
        "last_run_status": schedule.last_run_status and schedule.last_run_status.value,
    }
    times = {
        "paused_at": of.paused_at,
        "next_fire_at": of.next_fire_at,
        "last_fire_at": schedule.last_fire_at,
        "last_missed_at": schedule.last_missed_at,
        "last_skipped_at": schedule.last_skipped_at,
    }
    return {
        "job_id": of.id,
        "project_id": of.project_id,
        "name": of.settings.name,
        "slug": of.settings.slug,
        "cron": of.settings.cron,
        **{name: value for name, value in settings.items() if value},
        "enabled": of.enabled,
        **{name: time_text(value) for name, value in times.items() if value is not None},
        "missed_count": schedule.missed_count,
        "skipped_count": schedule.skipped_count,
    }


def standing_view(standing: Standing) -> dict[str, Any]:
    """Return how it stands with a dependency, as it is shown."""
    deciding = {} if standing.run_id is None else {"run_id": standing.run_id}
    status = {} if standing.status is None else {"status": standing.status.value}
    return {**dependency_view(standing.dependency), "is_met": standing.is_met, **deciding, **status}
