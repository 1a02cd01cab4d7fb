"""The bodies of requests that trigger runs and change them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sluice_agent.jobs.definitions.settings import Metadata, Tags, line
from sluice_agent.server.timestamps import Moment

MOST_ITEMS = 500
"""Runs of one bulk trigger."""

LONGEST_TTL = 30 * 86_400
"""Seconds; and how far ahead a run may be scheduled."""

_RunId = Annotated[str, line(64, least=1)]
IdempotencyKey = Annotated[str, line(256, least=1)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_null(cls, given: Any) -> Any:
        """A field that is null is absent."""
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


class TriggerItem(_Request):
    """A run that is wanted."""

    payload: Any = Field(default_factory=dict, description="Any JSON. The default is an empty object.")
    idempotency_key: IdempotencyKey | None = None
    priority: Annotated[int, Field(ge=0, le=10, description="The highest is executed first.")] = 0
    metadata: Metadata = {}
    tags: Tags = {}
    scheduled_at: Annotated[Moment | None, Field(description="At most 30 days ahead.")] = None
    ttl_secs: Annotated[int, Field(ge=0, le=LONGEST_TTL)] = 0
    concurrency_key: Annotated[str, line(256)] = ""
    debug_mode: Annotated[bool, Field(description="Keep the heads of requests and answers with its attempts.")] = False


class TriggerRequest(TriggerItem):
    """A run that is wanted, or, with `dry_run`, what would become of it."""

    dry_run: bool = False


class BulkRequest(_Request):
    """Runs that are wanted: all are made, or none."""

    items: Annotated[list[TriggerItem], Field(min_length=1, max_length=MOST_ITEMS)]


class ReplayRequest(_Request):
    """A replay. With `payload` the new run has that one."""

    payload: Annotated[Any, Field(description="Any JSON. The default is that of the run.")] = None


class DebugRequest(_Request):
    """Whether the heads of a run's requests are kept."""

    debug_mode: bool = True


class RunIds(_Request):
    """Runs by their ids."""

    ids: Annotated[list[_RunId], Field(min_length=1, max_length=MOST_ITEMS)]


class DeadLetters(_Request):
    """The dead letters that are to be replayed: those of a project that fulfil all conditions."""

    project_id: Annotated[str, line(255)] = ""
    job_id: Annotated[str | None, line(64, least=1)] = None
    batch_id: Annotated[str | None, line(64, least=1)] = None
    error_class: Annotated[str | None, line(64, least=1)] = None
    search: Annotated[
        str | None,
        line(512, least=1),
        Field(description="A part of a job's name or slug, or a run's whole id or idempotency key."),
    ] = None
    created_from: Moment | None = None
    created_before: Moment | None = None
    ids: Annotated[list[_RunId], Field(max_length=MOST_ITEMS, description="Without any it is all.")] = []


class Reschedule(_Request):
    """Another time of a delayed run; one that has passed lets it begin at once."""

    scheduled_at: Moment
