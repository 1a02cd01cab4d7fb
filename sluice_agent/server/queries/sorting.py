"""By what a list of jobs can be sorted. As `job_filter`, it needs no package of the extra."""

from __future__ import annotations

from enum import Enum


class SortBy(str, Enum):
    """Fields by which a list of jobs can be sorted."""

    CREATED_AT = "createdAt"
    STATE_CHANGED_AT = "stateChangedAt"
    STARTED_AT = "startedAt"
    COMPLETED_AT = "completedAt"
    DURATION_MS = "durationMs"
    NAME = "name"
    QUEUE = "queue"
    STATE = "state"
    WORKER = "worker"


class SortOrder(str, Enum):
    """Ascending or descending."""

    ASC = "asc"
    DESC = "desc"
