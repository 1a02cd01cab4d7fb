"""The tables of the jobs API, in both dialects.

Times are microseconds since 1970 in UTC, ids are UUIDs as text, and what is only ever read as a whole is JSON. A job
has a row of `job_version` for each of its versions, the current one included, with all settings that an update can
change; `job` has what queries look for. A run's row is the run: its `status` is changed only from the status that it is
expected to have (`runs/transitions.py`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    false,
    text,
    true,
)

from sluice_agent.server.store import webhook_tables
from sluice_agent.server.store.schema import lease as lease_of_events

metadata = MetaData()

_ZERO = text("0")

meta = Table("meta", metadata, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
"""Single values, such as `token_secret`, by which tokens of runs are signed."""

lease = lease_of_events.to_metadata(metadata)
"""What only one of several servers may do at a time, and which of them does it."""

job = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("slug", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("version", Integer, nullable=False),  # the current one
    Column("created_by", Text),
    Column("updated_by", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("paused_at", BigInteger),  # since when none of its runs starts
    Column("has_cron", Boolean, nullable=False, server_default=false()),
    Column("next_fire_at", BigInteger),  # of its cron expression
    Column("last_fire_at", BigInteger),  # the minute of the last firing that made a run, which is `last_fired_run_id`
    Column("last_fired_run_id", Text),
    Column("missed_count", BigInteger, nullable=False, server_default=_ZERO),  # firings that no server made in time
    Column("last_missed_at", BigInteger),
    Column("missed_before_at", BigInteger),  # the missed firing before that one, while the job is paused
    Column("skipped_count", BigInteger, nullable=False, server_default=_ZERO),  # and those that a limit forbade
    Column("last_skipped_at", BigInteger),
)
Index("job_by_slug", job.c.project_id, job.c.slug, unique=True)
_BY_CREATION = (job.c.project_id, job.c.created_at, job.c.id)
Index("job_by_creation", *_BY_CREATION)
_FIRES = text("next_fire_at IS NOT NULL")
Index("job_by_firing", job.c.next_fire_at, sqlite_where=_FIRES, postgresql_where=_FIRES)

has_cron = text("has_cron")
Index("job_by_schedule", *_BY_CREATION, sqlite_where=has_cron, postgresql_where=has_cron)

job_version = Table(
    "job_version",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),  # ver_…
    Column("settings", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

job_limit = Table(
    "job_limit",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("max", Integer, primary_key=True),
    Column("window_secs", Integer, primary_key=True),
)
"""The named limits of each job's current version. A name is one limit in all jobs of a project."""
Index("job_limit_by_name", job_limit.c.project_id, job_limit.c.name)

limited_start = Table(
    "limited_start",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("retries", Integer, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("started_at", BigInteger, nullable=False),
)
"""The attempts that count against a named limit, as long as they do."""
Index("limited_start_by_name", limited_start.c.project_id, limited_start.c.name, limited_start.c.started_at)

job_tag = Table(
    "job_tag",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
Index("job_by_tag", job_tag.c.key, job_tag.c.value, job_tag.c.job_id)

dependency = Table(
    "dependency",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("depends_on_job_id", Text, nullable=False),
    Column("condition", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
Index("dependency_once", dependency.c.job_id, dependency.c.depends_on_job_id, unique=True)
Index("dependency_by_target", dependency.c.depends_on_job_id)

batch = Table(
    "batch",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job_id", Text, nullable=False, index=True),
    Column("item_count", Integer, nullable=False),
    Column("created_count", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
"""The bulk triggers: all runs of one have its id."""

run = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("project_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),  # from 1; a replay of the same run begins with 1 again
    Column("retries", Integer, nullable=False, server_default=_ZERO),  # attempts before this one, also of replays:
    # the number that Celery calls retries, so that no two attempts of a run are one to an observer
    Column("priority", SmallInteger, nullable=False),  # 0 to 10, the highest first
    Column("payload", Text, nullable=False),  # canonical JSON
    Column("payload_hash", Text, nullable=False),  # SHA-256 of it, in hexadecimal digits
    Column("tags", Text),
    Column("metadata", Text),
    Column("triggered_by", Text, nullable=False),
    Column("fire_at", BigInteger),  # the minute for which the job's cron expression made it
    Column("created_by", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("job_version", Integer, nullable=False),
    Column("job_version_id", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("dependency_key", Text),
    Column("concurrency_key", Text),
    Column("batch_id", Text),
    Column("parent_run_id", Text),
    Column("continuation_of", Text),
    Column("lineage_depth", Integer, nullable=False, server_default=_ZERO),
    Column("debug_mode", Boolean, nullable=False),
    Column("scheduled_at", BigInteger),
    Column("next_retry_at", BigInteger),
    Column("available_at", BigInteger, nullable=False),  # not to be claimed before: the latest of the times above
    Column("is_ready", Boolean, nullable=False, server_default=true()),  # False while a queued run waits for that time
    Column("expires_at", BigInteger),
    Column("first_started_at", BigInteger),  # from which on it does not expire
    Column("claimed_at", BigInteger),
    # From when its message may be taken for lost; of a Celery task, until when an event of it must come:
    Column("claimed_until", BigInteger),
    Column("published_at", BigInteger),  # when the broker confirmed the message of this claim
    Column("ticket_hash", LargeBinary),  # of the tickets by which a worker starts this attempt, one after the other
    Column("task_id", Text),  # of the Celery task that this attempt is; null: an attempt of another kind, or none yet
    Column("execution", Text),  # the random name of the execution that has started this attempt
    Column("started_at", BigInteger),
    Column("heartbeat_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("result", Text),  # JSON
    Column("error", Text),
    Column("error_class", Text),
    Column("execution_trace", Text),  # JSON
    Column("progress", Text),  # JSON, as the endpoint reported it last in this attempt
)


def _index(name: str, *columns: str, where: str | None = None, unique: bool = False) -> Index:
    """Return an index of `run`; over the rows that fulfil `where` only: the others cost nothing."""
    condition = None if where is None else text(where)
    parts = (run.c[name].desc() if order else run.c[name] for name, _, order in (c.partition(" ") for c in columns))
    return Index(name, *parts, unique=unique, sqlite_where=condition, postgresql_where=condition)


_TO_CLAIM = "status = 'queued' AND is_ready"
_HELD = "status = 'queued' AND NOT is_ready"
_DELAYED = "status = 'delayed'"
_WAITING = "status = 'waiting'"
_TO_EXPIRE = "status IN ('delayed', 'queued', 'waiting') AND first_started_at IS NULL AND expires_at IS NOT NULL"
_FIRED = "fire_at IS NOT NULL AND finished_at IS NULL"
_UNDER_WAY = "status IN ('dequeued', 'executing')"
_OPEN_TASK = "status IN ('dequeued', 'executing') AND task_id IS NOT NULL"

# A query uses a partial index only if it has its condition in the same words, as `can_be_claimed` has.
RUN_INDEXES = (
    _index("run_by_creation", "project_id", "created_at", "id"),
    _index("run_by_status", "project_id", "status", "created_at", "id"),
    _index("run_by_job", "job_id", "created_at", "id"),  # lists, and the rate limit
    _index("run_by_payload", "job_id", "payload_hash", "created_at", "id"),  # the dedup window
    _index("run_by_key", "job_id", "idempotency_key", where="idempotency_key IS NOT NULL", unique=True),
    _index("run_by_batch", "batch_id", "created_at", "id", where="batch_id IS NOT NULL"),
    _index("run_by_continuation", "continuation_of", where="continuation_of IS NOT NULL", unique=True),
    _index("run_by_parent", "parent_run_id", where="parent_run_id IS NOT NULL"),
    _index("run_to_claim", "job_id", "priority DESC", "created_at", "id", "concurrency_key", where=_TO_CLAIM),
    _index("run_held", "available_at", "id", where=_HELD),
    _index("run_due", "available_at", "id", where=_DELAYED),
    _index("run_waiting", "id", where=_WAITING),
    _index("run_to_expire", "expires_at", "id", where=_TO_EXPIRE),
    _index("run_under_way", "job_id", "concurrency_key", "status", where=_UNDER_WAY),
    _index("run_of_task", "claimed_until", "id", "task_id", where=_OPEN_TASK),
    # Lists of a state; counts and the health of a job, which read no rows beside it:
    _index("run_by_job_status", "job_id", "status", "created_at", "id", "started_at", "finished_at"),
    _index("run_by_end", "job_id", "finished_at", where="finished_at IS NOT NULL"),
    _index("run_by_firing", "job_id", "fire_at", where="fire_at IS NOT NULL", unique=True),
    _index("run_fired", "job_id", "id", where=_FIRED),
    _index("run_by_dependency", "job_id", "dependency_key", "finished_at", where="dependency_key IS NOT NULL"),
)


can_be_claimed = text(_TO_CLAIM)
"""The condition of the queued runs whose time has come."""

is_held = text(_HELD)
"""The condition of the queued runs that wait for `available_at`, most of them for their next attempt."""

is_delayed = text(_DELAYED)
is_waiting = text(_WAITING)

can_expire = text(_TO_EXPIRE)
"""The condition of the runs that end by `expires_at`: none that has ever started."""

is_fired = text(_FIRED)
"""The condition of the runs that cron has made, and that have not ended."""

is_claimed = text(_UNDER_WAY)
"""The condition of the runs that count against the limits of their jobs, from their claim to the attempt's end."""

is_open_task = text(_OPEN_TASK)
"""The condition of the runs whose outcome is an event of a Celery task."""

run_tag = Table(
    "run_tag",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("project_id", Text, nullable=False),  # this and the next are those of the run, for the order of lists
    Column("created_at", BigInteger, nullable=False),
)
_IN_ORDER = (run_tag.c.created_at, run_tag.c.run_id)
Index("run_by_tag", run_tag.c.project_id, run_tag.c.key, run_tag.c.value, *_IN_ORDER)
Index("run_by_tag_key", run_tag.c.project_id, run_tag.c.key, *_IN_ORDER)

attempt = Table(
    "attempt",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("retries", Integer, primary_key=True),  # `run.retries` of this attempt
    Column("attempt", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("status_code", Integer),  # of the endpoint's answer
    Column("error_class", Text),
    Column("error", Text),
    Column("trace", Text),  # JSON
)

circuit = Table(
    "circuit",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("url", Text, primary_key=True),
    Column("failures", Integer, nullable=False),  # in a row
    Column("open_until", BigInteger),  # no request is sent before; None: it is closed
)
"""The circuits of endpoints that have failed. One without a row is closed, with no failures."""

event_cursor = Table(
    "event_cursor",
    metadata,
    Column("connection", Text, primary_key=True),  # a UUID, as in the database of events
    Column("position", BigInteger, nullable=False),
)
"""Up to which frame the events of each connection are taken into account in runs of Celery tasks."""

revocation = Table(
    "revocation",
    metadata,
    Column("task_id", Text, primary_key=True),
    Column("created_at", BigInteger, nullable=False),
)
"""Celery tasks whose attempts have ended without them: workers are still to be asked not to run them."""

replay = Table(
    "replay",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("state", Text, nullable=False),  # running, completed or canceled
    Column("who", Text),
    Column("filter", Text, nullable=False),  # which dead letters are wanted, as JSON
    Column("ended_before", BigInteger, nullable=False),  # later ones are no part of it, so none is replayed twice
    Column("total", Integer, nullable=False),  # dead letters that matched when it began
    Column("replayed", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("refusals", Text, nullable=False),  # JSON: by reason their number, and the first runs
    Column("after_created_at", BigInteger),  # the last dead letter that was looked at, in the order of lists
    Column("after_id", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
)
"""The replays of all dead letters that match a filter. What was done and how far it went change in one transaction."""
Index("replay_by_creation", replay.c.project_id, replay.c.created_at, replay.c.id)
_RUNNING = text("state = 'running'")
Index("replay_running", replay.c.created_at, sqlite_where=_RUNNING, postgresql_where=_RUNNING)

is_replaying = _RUNNING
"""The condition of the replays that go on."""

webhook_delivery = webhook_tables.webhook_delivery.to_metadata(metadata)
webhook_delivery.indexes = {
    index for index in webhook_delivery.indexes if index.name != "webhook_delivery_by_due"
}  # with it SQLite sorts all that wait to find the URLs, which `webhook_delivery_by_url` has in their order
webhook_attempt = webhook_tables.webhook_attempt.to_metadata(metadata)
"""The webhooks of runs, in the same database, so that one is added in the transaction that ends its run. The `kind` is
`run.` and the status, the `subject` the run, and the `secret` the job, whose secrets sign it."""

_PENDING = text("state = 'pending'")
WEBHOOK_INDEXES = (
    Index(
        "webhook_delivery_by_url",
        webhook_delivery.c.url,
        webhook_delivery.c.due_at,
        sqlite_where=_PENDING,
        postgresql_where=_PENDING,
    ),
    Index("webhook_delivery_by_run", webhook_delivery.c.subject, webhook_delivery.c.created_at),
    Index("webhook_delivery_by_job", webhook_delivery.c.secret, webhook_delivery.c.created_at, webhook_delivery.c.id),
)

run_log = Table(
    "run_log",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("data", Text),  # JSON
    sqlite_with_rowid=False,
)
"""What endpoints have logged about their runs."""
