"""The bodies of the API's responses, closed: a handler that returns a field too many or too few fails."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from sluice_agent.model import Framework, JobState, WorkerState
from sluice_agent.server.queries.job_steps import MOST_STATES

Timestamp = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
        examples=["2026-02-27T10:29:55.000Z"],
    ),
]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
ShownWorkerState = Literal[WorkerState.ONLINE, WorkerState.BUSY, WorkerState.IDLE, WorkerState.OFFLINE]


class _Closed(BaseModel):
    """A body of which every field is always there; one without a value is null."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel)


class Problem(_Closed):
    """What went wrong. `details` has a message for each wrong parameter or field."""

    code: str
    message: str
    docs_url: Annotated[str, Field(alias="docs_url")]
    details: dict[str, str] = Field(default_factory=dict)


class ErrorBody(_Closed):
    """The body of every error."""

    error: Problem


class CursorPagination(_Closed):
    """`nextCursor` is null on the last page. If `totalExact` is false, there are at least `total`."""

    next_cursor: Annotated[str, Field(max_length=1_000)] | None
    limit: Annotated[int, Field(ge=1, le=100)]
    total: Count
    total_exact: bool


class PagePagination(_Closed):
    """Pages count from 1."""

    page: Annotated[int, Field(ge=1)]
    limit: Annotated[int, Field(ge=1, le=100)]
    total: Count
    total_pages: Count


class JobSummary(_Closed):
    """A job in a list."""

    id: UUID
    external_id: str
    framework: Framework
    connection_id: UUID
    name: str
    queue: str | None
    state: JobState
    state_changed_at: Timestamp
    created_at: Timestamp
    scheduled_for: Timestamp | None
    started_at: Timestamp | None
    completed_at: Timestamp | None
    duration_ms: Count | None
    worker_id: str | None
    error: str | None


class JobPage(_Closed):
    """A page of the list of jobs."""

    data: list[JobSummary]
    pagination: CursorPagination


class StateChange(_Closed):
    """A state of a job's history, and when it began."""

    state: JobState
    timestamp: Timestamp


class Execution(_Closed):
    """Another job of the same task."""

    id: UUID
    external_id: str
    state: JobState
    created_at: Timestamp
    started_at: Timestamp | None
    completed_at: Timestamp | None
    duration_ms: Count | None
    error: str | None


class JobRecord(_Closed):
    """All that is known of a job. If `stateHistory` has not all states, `extensions.stateHistoryOffset` counts those
    before it, and `extensions.stateHistoryTotal` all."""

    id: UUID
    external_id: str
    framework: Framework
    connection_id: UUID
    name: str
    queue: str | None
    tags: dict[str, Any]
    state: JobState
    state_changed_at: Timestamp
    previous_state: JobState | None
    created_at: Timestamp
    scheduled_for: Timestamp | None
    started_at: Timestamp | None
    completed_at: Timestamp | None
    duration_ms: Count | None
    worker_id: str | None
    attempt: Annotated[int, Field(ge=1)]
    max_retries: Count | None
    progress: Share | None
    args: Any
    result: Any
    error: str | None
    stacktrace: str | None
    parent_id: str | None
    root_id: str | None
    extensions: dict[str, Any]
    state_history: Annotated[list[StateChange], Field(max_length=MOST_STATES)]
    recent_executions: Annotated[list[Execution], Field(max_length=10)]


class HealthBucket(_Closed):
    """The runs that ended in one interval of a health bar."""

    start: Timestamp
    end: Timestamp
    succeeded: Count
    failed: Count


class HealthBar(_Closed):
    """The runs of a queue that ended, in equal intervals up to now; the last one is not over."""

    time_range: str
    buckets: list[HealthBucket]


class Queue(_Closed):
    """A queue. `throughput` counts ended runs a second, `avgLatencyMs` is the mean wait, both over the time range."""

    id: UUID
    name: str
    framework: Framework
    connection_id: UUID
    depth: Count | None
    consumers: Count | None
    throughput: Annotated[float, Field(ge=0)] | None
    avg_latency_ms: Annotated[float, Field(ge=0)] | None
    failure_rate: Share
    health_bar: HealthBar
    extensions: dict[str, Any]
    created_at: Timestamp


class QueuePage(_Closed):
    """A page of the list of queues."""

    data: list[Queue]
    pagination: PagePagination


class Worker(_Closed):
    """A worker. `taskRate` is of the last hour, in jobs a minute; `processedTotal` counts from its start."""

    id: UUID
    external_id: str
    framework: Framework
    connection_id: UUID
    hostname: str
    pid: Count | None
    state: ShownWorkerState
    last_heartbeat: Timestamp | None
    concurrency: Count | None
    active_jobs: Count
    queues: list[str]
    metadata: dict[str, Any]
    task_rate: Annotated[float, Field(ge=0)] | None
    processed_total: Count | None
    extensions: dict[str, Any]
    created_at: Timestamp


class WorkerPage(_Closed):
    """A page of the list of workers."""

    data: list[Worker]
    pagination: PagePagination


class Percentiles(_Closed):
    """Milliseconds below which so many percent of the durations are; null if there is none."""

    p50: Count | None
    p95: Count | None
    p99: Count | None


class TaskStatistics(_Closed):
    """What the runs of one task did in the time range. `failureRate` is the share of failed ones among those ended."""

    name: str
    started: Count
    completed: Count
    failed: Count
    rate_per_minute: Annotated[float, Field(ge=0)]
    failure_rate: Share
    wait_ms: Percentiles
    run_ms: Percentiles


class TaskList(_Closed):
    """The tasks that had runs in the time range, by name."""

    data: list[TaskStatistics]


class Usage(_Closed):
    """The events that the connection has sent in this UTC day, and its limit."""

    day: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    events: Count
    limit: Count | None


class IngestAnswer(_Closed):
    """What became of the events of a batch."""

    accepted: Count
    rejected: Count
    skipped: Count
    truncated: Count
    usage: Usage


class HealthCounts(_Closed):
    """What the database holds: events received in the days that are still counted, and jobs."""

    events: Count
    jobs: Count


class Health(_Closed):
    """The state of the server. Of ended jobs, those created before `reachesBackTo` may be deleted."""

    status: Literal["ok"]
    version: str
    counts: HealthCounts
    reaches_back_to: Timestamp | None
