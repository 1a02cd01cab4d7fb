"""The bodies of the routes that act. They are closed: a field more or less is an error of the server."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class RetriedAs(_Closed):
    """The new job of a retry: Sluice's id, and Celery's."""

    id: str
    external_id: str


class RetryAnswer(_Closed):
    """The job was sent again."""

    id: str
    state: Literal["retrying"] = "retrying"
    message: str
    retried_as: RetriedAs


class RevokeAnswer(_Closed):
    """The workers were asked not to run the job."""

    id: str
    state: Literal["cancelled"] = "cancelled"
    message: str


class RetryPreview(_Closed):
    """What would be sent."""

    id: str
    dry_run: Literal[True] = True
    name: str
    queue: str
    args: Any
    kwargs: Any
    notes: list[str]


class RevokePreview(_Closed):
    """What would be revoked."""

    id: str
    dry_run: Literal[True] = True
    name: str
    queue: str | None
    state: str


class Succeeded(_Closed):
    """A job of a list that was acted on."""

    id: str
    success: Literal[True] = True
    state: Literal["retrying", "cancelled"]


class Failed(_Closed):
    """A job of a list that was not acted on, with the reason."""

    id: str
    success: Literal[False] = False
    error: str


class Results(_Closed):
    """What has become of each job of a list, in its order."""

    results: list[Succeeded | Failed]


class BulkPreview(_Closed):
    """The number of jobs that would be acted on, and the first of them."""

    dry_run: Literal[True] = True
    total: int
    jobs: list[RetryPreview | RevokePreview | Failed]


class ErrorCount(_Closed):
    """A reason for which jobs of a bulk action were not acted on, their number, and the first of them."""

    error: str
    jobs: int
    examples: list[str]


class BulkActionAnswer(_Closed):
    """A bulk action and its progress: `total` jobs, and how many of them are in each state."""

    id: str
    action: Literal["retry", "revoke"]
    state: Literal["collecting", "running", "completed", "cancelled"]
    by: str
    filter: dict[str, Any]
    created_at: str
    finished_at: str | None
    waiting_for: str | None
    total: int | None
    pending: int
    sending: int
    succeeded: int
    failed: int
    unconfirmed: int
    cancelled: int
    errors: list[ErrorCount]
