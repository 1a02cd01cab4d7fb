"""The description of ``/v1``: the bodies of its answers, and the errors of its routes.

The bodies are described here and made by views: a field without a value is absent, which no model of the framework
writes. Tests hold one against the other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sluice_agent.jobs.runs.health import HealthWindow
from sluice_agent.jobs.runs.replays import ReplayState
from sluice_agent.jobs.status import Status
from sluice_agent.server.webhooks.schedule import DeliveryState

Timestamp = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Texts = dict[str, str]
_Filled = Annotated[str, Field(min_length=1)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(_Closed):
    """What went wrong. `details` has a line for each fault."""

    code: str
    message: str
    details: list[str] = []


class ErrorBody(_Closed):
    """The body of every error."""

    error: Problem
    request_id: str


class LimitBody(_Closed):
    """A named limit."""

    name: str
    max: int
    window_secs: int


class VersionBody(_Closed):
    """A version of a job."""

    id: str
    version_id: str
    job_id: str
    version: int
    name: str
    slug: str
    description: str = ""
    cron: str = ""
    payload_schema: dict[str, Any] = {}
    tags: Texts = {}
    endpoint_url: str
    fallback_endpoint_url: str = ""
    max_attempts: int
    timeout_secs: int
    webhook_url: str = ""
    webhook_secret: Annotated[str, Field(description="Its end.")] = ""
    run_ttl_secs: int = 0
    backwards_compatible: bool = False
    created_at: Timestamp


class JobBody(_Closed):
    """A job."""

    id: str
    project_id: str
    group_id: str = ""
    name: str
    slug: str
    description: str = ""
    cron: str = ""
    payload_schema: dict[str, Any] = {}
    tags: Texts = {}
    endpoint_url: str
    fallback_endpoint_url: str = ""
    max_attempts: int
    timeout_secs: int
    max_concurrency: int = 0
    execution_window_cron: str = ""
    timezone: str = ""
    rate_limit_max: int = 0
    rate_limit_window_secs: int = 0
    max_concurrency_per_key: int = 0
    rate_limit_keys: list[LimitBody] = []
    default_run_metadata: Texts = {}
    dedup_window_secs: int = 0
    cron_payload: dict[str, Any] = {}
    cron_overlap_policy: str = ""
    cron_grace_secs: int = 0
    enabled: bool
    paused_at: Annotated[Timestamp, Field(description="Since when no run of it starts.")] = ""
    webhook_url: str = ""
    webhook_secret: Annotated[str, Field(description="Its end.")] = ""
    run_ttl_secs: int = 0
    retry_strategy: str = ""
    retry_delays_secs: list[int] = []
    environment_id: str = ""
    version: int
    version_id: str
    version_policy: Literal["pin", "latest", "minor"]
    backwards_compatible: bool = False
    created_by: str = ""
    updated_by: str = ""
    created_at: Timestamp
    updated_at: Timestamp


class ItemError(_Closed):
    """Why a job of a batch was not made, by its index in the batch."""

    index: int
    message: str


class BatchBody(_Closed):
    """The jobs of a batch that were made, and the errors of the others."""

    created: list[JobBody]
    errors: list[ItemError] = []


class UpdatedBody(_Closed):
    """How many of the jobs exist."""

    updated: int


class NotReplayed(_Closed):
    """A run that can't be replayed, and why."""

    id: str
    reason: str


class ReplayedBody(_Closed):
    """How many dead letters begin again, and which of the runs do not."""

    replayed: int
    refused: list[NotReplayed] = []


class RefusalsBody(_Closed):
    """A reason for which dead letters do not begin again, their number, and the first of them."""

    reason: str
    runs: int
    examples: list[str]


class ReplayBody(_Closed):
    """A replay of all dead letters that match a filter: how many matched when it began, and how far it is."""

    id: str
    project_id: str
    state: ReplayState
    created_by: str = ""
    job_id: str = ""
    batch_id: str = ""
    error_class: str = ""
    search: str = ""
    created_from: Timestamp = ""
    created_before: Timestamp = ""
    ids: list[str] = []
    total: int
    replayed: int
    refused: int
    refusals: list[RefusalsBody] = []
    created_at: Timestamp
    finished_at: Timestamp = ""


class ReplayEnvelope(_Closed):
    """A page of replays."""

    data: list[ReplayBody]
    next_cursor: str = ""
    has_more: bool


class DependencyBody(_Closed):
    """A dependency of a job."""

    id: str
    job_id: str
    depends_on_job_id: str
    condition: Literal["completed", "failed", "any"]
    created_at: Timestamp


class JobEnvelope(_Closed):
    """A page of jobs."""

    data: list[JobBody]
    next_cursor: _Filled = ""
    has_more: bool


class VersionEnvelope(_Closed):
    """A page of versions."""

    data: list[VersionBody]
    next_cursor: _Filled = ""
    has_more: bool


class DependencyEnvelope(_Closed):
    """A page of dependencies."""

    data: list[DependencyBody]
    next_cursor: _Filled = ""
    has_more: bool


class TraceBody(_Closed):
    """Where the time of the last attempt went, in milliseconds."""

    queue_wait_ms: int = 0
    dequeue_ms: int = 0
    dns_ms: int = 0
    connect_ms: int = 0
    tls_ms: int = 0
    ttfb_ms: int = 0
    transfer_ms: int = 0
    total_ms: int = 0
    dispatch_ms: int = 0


class ExchangeBody(_Closed):
    """The heads of a request and of its answer; without `status_code` there was none. Secrets are replaced."""

    url: str
    request_headers: Texts
    status_code: int = 0
    answer_headers: Texts = {}


class AttemptTraceBody(_Closed):
    """Where the time of an attempt went, in milliseconds. TLS is a part of `ttfb_ms`. `exchanges` is there only of an
    attempt in `debug_mode`: the request to the endpoint, and that to the fallback."""

    dns_ms: int = 0
    connect_ms: int = 0
    tls_ms: int = 0
    ttfb_ms: int = 0
    transfer_ms: int = 0
    dispatch_ms: int = 0
    total_ms: int = 0
    exchanges: list[ExchangeBody] = []


class AttemptBody(_Closed):
    """An attempt of a run. `number` counts those of all replays; without `finished_at` it is under way."""

    number: int
    attempt: int
    started_at: Timestamp
    finished_at: Timestamp = ""
    status_code: Annotated[int, Field(description="Of the endpoint's answer.")] = 0
    error_class: str = ""
    error: str = ""
    trace: AttemptTraceBody = AttemptTraceBody()


class AttemptEnvelope(_Closed):
    """A page of attempts."""

    data: list[AttemptBody]
    next_cursor: _Filled = ""
    has_more: bool


class LogBody(_Closed):
    """A line that an endpoint has logged about its run."""

    number: int
    attempt: int
    at: Timestamp
    level: str
    message: str
    data: Any = None


class LogEnvelope(_Closed):
    """A page of such lines."""

    data: list[LogBody]
    next_cursor: _Filled = ""
    has_more: bool


class HealthBody(_Closed):
    """How the runs of a job have ended that were created in a window. `failed_runs` has the dead letters, and
    `crashed_runs` those of `system_failed`."""

    job_id: str
    window: HealthWindow
    since: Timestamp
    total_runs: int
    completed_runs: int
    failed_runs: int
    timed_out_runs: int
    crashed_runs: int
    canceled_runs: int
    expired_runs: int
    success_rate: Annotated[float, Field(description="In percent.")]
    avg_duration_secs: float
    p95_duration_secs: float
    p99_duration_secs: float
    health_score: Annotated[float, Field(description="0 to 100; -1 without runs.")]


class RunBody(_Closed):
    """A run of a job."""

    id: str
    job_id: str
    project_id: str
    status: Status
    attempt: int
    payload: Any = None
    result: Any = None
    metadata: Texts = {}
    error: str = ""
    triggered_by: str
    fire_at: Annotated[Timestamp, Field(description="The minute for which cron has made it.")] = ""
    scheduled_at: Timestamp = ""
    started_at: Timestamp = ""
    finished_at: Timestamp = ""
    heartbeat_at: Timestamp = ""
    next_retry_at: Timestamp = ""
    expires_at: Timestamp = ""
    parent_run_id: str = ""
    priority: int
    idempotency_key: str = ""
    job_version: int
    execution_trace: TraceBody = TraceBody()
    debug_mode: bool
    continuation_of: str = ""
    lineage_depth: int
    tags: Texts = {}
    job_version_id: str
    task_id: Annotated[str, Field(description="Of the Celery task, if the endpoint is one.")] = ""
    created_by: str = ""
    batch_id: str = ""
    concurrency_key: str = ""
    created_at: Timestamp


class CalledBody(_Closed):
    """The run that an endpoint works on, after its call."""

    id: str
    status: Status
    attempt: int


class ProgressBody(_Closed):
    """How far a run is, as its endpoint has reported last."""

    percent: float
    message: str = ""
    at: Timestamp


class FoundRunBody(RunBody):
    """A run that was asked for. `queue_without_workers` is there only while it waits and no worker takes from the queue
    of that name, `job_paused_at` only while it waits for its job to be resumed, and `waits_for_limit` only while the
    named limit is used up. `note` is the reason why a queued run does not start, or why a Celery task waits for an
    event, or has no result."""

    queue_without_workers: str = ""
    job_paused_at: Timestamp = ""
    waits_for_limit: str = ""
    note: str = ""
    progress: ProgressBody | None = None


class TriggeredBody(RunBody):
    """A run that was triggered, or was there: by its key, or by its payload. A token is only that of a new one."""

    payload_hash: str
    run_token: str = ""
    idempotency_hit: bool
    deduplicated: bool = False


class DryRunBody(_Closed):
    """What would become of a trigger."""

    job: JobBody
    payload_hash: str
    payload: Any
    scheduled_at: Timestamp = ""
    expires_at: Timestamp = ""
    validation_warnings: list[str] = []


class ResultBody(_Closed):
    """A run of a bulk trigger. The token is empty if the run was there already."""

    id: str
    status: Status
    run_token: str
    idempotency_hit: bool


class BulkBody(_Closed):
    """The runs of a bulk trigger, in the order of its items."""

    batch_id: str
    results: list[ResultBody]
    total: int
    created: int


class RunEnvelope(_Closed):
    """A page of runs."""

    data: list[RunBody]
    next_cursor: _Filled = ""
    has_more: bool


class ScheduleBody(_Closed):
    """A job with a cron expression. Firings are missed if no server makes them in time, and while the job is paused;
    they are skipped by the overlap policy, and by the job's rate limit."""

    job_id: str
    project_id: str
    name: str
    slug: str
    cron: str
    timezone: str = ""
    cron_overlap_policy: str = ""
    cron_grace_secs: int = 0
    enabled: bool
    paused_at: Timestamp = ""
    next_fire_at: Annotated[Timestamp, Field(description="Absent while the job is disabled.")] = ""
    last_fire_at: Annotated[Timestamp, Field(description="The minute of the last firing that made a run.")] = ""
    last_run_id: Annotated[str, Field(description="The run of the last firing.")] = ""
    last_run_status: Annotated[str, Field(description="Absent if that run has been deleted.")] = ""
    missed_count: int
    last_missed_at: Timestamp = ""
    skipped_count: int
    last_skipped_at: Timestamp = ""


class FoundScheduleBody(ScheduleBody):
    """The schedule of a job, with its next firings: none while the job is disabled."""

    next_firings: list[Timestamp]


class ScheduleEnvelope(_Closed):
    """A page of schedules."""

    data: list[ScheduleBody]
    next_cursor: _Filled = ""
    has_more: bool


class PreviewBody(_Closed):
    """When a cron expression fires: next, in UTC and as the clock of the zone shows it."""

    cron: str
    timezone: str
    next_firings: list[Timestamp]
    local_firings: list[str]


class DeliveryAttemptBody(_Closed):
    """An attempt to send a webhook. Without `status` there was no answer."""

    at: Timestamp
    duration_ms: int
    status: int = 0
    error: str = ""


class DeliveryBody(_Closed):
    """A webhook of a run: one for each end of it. `id` is what the receiver gets as `webhook-id`."""

    id: str
    event: Annotated[str, Field(description="`run.` and the status in which the run has ended.")]
    run_id: str
    job_id: str
    project_id: str
    url: str
    state: DeliveryState
    attempts: Annotated[int, Field(description="Since it was made, or sent again.")]
    created_at: Timestamp
    next_attempt_at: Timestamp = ""
    ended_at: Timestamp = ""
    last_attempt: DeliveryAttemptBody | None = None


class NumberedAttemptBody(DeliveryAttemptBody):
    """An attempt to send a webhook, with its number."""

    number: int


class WholeDeliveryBody(DeliveryBody):
    """A webhook with what is sent, and all attempts whose end is known."""

    body: Any
    attempt_list: list[NumberedAttemptBody]


class DeliveryEnvelope(_Closed):
    """A page of webhooks."""

    data: list[DeliveryBody]
    next_cursor: _Filled = ""
    has_more: bool


class StandingBody(DependencyBody):
    """A dependency of a run's job, and the latest run that ended, which decides about it."""

    is_met: bool
    run_id: str = ""
    status: str = ""


_ERRORS = {
    400: "A parameter or the body is not valid; `details` names it.",
    401: "A key is needed.",
    403: "The key may not do this.",
    404: "There is nothing under this id.",
    409: "The state does not allow it.",
    413: "The body is too large.",
    415: "The body is compressed.",
    421: "The Host header names another server.",
    429: "A limit of the job, or of the client's address, is used up: `Retry-After` has the seconds until it is not.",
    500: "The server failed.",
    503: "The server is busy or shuts down, or the database is away.",
}
_OF_ALL = (400, 401, 403, 421, 500, 503)
_OF_BODIES = (413, 415)
Responses = dict[int | str, dict[str, Any]]


def responses(status: int, model: Any, *errors: int, has_body: bool = False) -> Responses:
    """Return the description of a route that answers `model`, or with no body if that is None, and these errors beside
    those of all routes."""
    success = {"description": "Done."} if model is None else {"model": model}
    statuses = sorted({*_OF_ALL, *errors, *(_OF_BODIES if has_body else ())})
    return {status: success} | _errors(*statuses)


def _errors(*statuses: int) -> Responses:
    return {status: {"model": ErrorBody, "description": _ERRORS[status]} for status in statuses}


REFUSED_BY_LIMIT = _errors(429)
"""The description of a refusal by the limits of an address, which all routes of ``/v1`` have."""
