"""The unified model: an event on the wire, with every limit that the ingest contract sets.

Nothing of Celery, of files or of HTTP may enter here. Names are snake_case in Python and camelCase on the wire; a field
that is unknown is absent, never null. An agent builds events from any values of its host, so a text that is too long is
cut with a mark and a text that is not valid UTF-8 is made valid: neither is an error. A server validates what it
receives by the same types of fields, without any correction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError
from pydantic import model_validator as validator_of_model
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticSerializationError, to_json

WireEvent = dict[str, Any]
"""An event as it is sent: the documented fields by their wire names, without those that have no value."""

_Model = TypeVar("_Model", bound="_Wire")

TIMESTAMP = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z$"
)

UNNAMED = "unknown"
"""The name of a job whose name its observer does not know: the contract requires one."""

Timestamp = Annotated[str, Field(pattern=TIMESTAMP)]  # RFC 3339 in UTC; \d would take any script's digits
Count = Annotated[int, Field(ge=0, strict=True)]
Attempt = Annotated[int, Field(ge=1, strict=True)]
Progress = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
NonEmptyText = Annotated[str, Field(min_length=1)]
ShortText = Annotated[str, Field(min_length=1, max_length=255)]
Identifier = Annotated[str, Field(min_length=1, max_length=512)]
JobName = Annotated[str, Field(min_length=1, max_length=1024)]
ErrorText = Annotated[str, Field(max_length=10_000)]
StacktraceText = Annotated[str, Field(max_length=50_000)]
ConnectionId = Annotated[
    str, Field(pattern=r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$")
]


class EventType(str, Enum):
    """The kinds of events."""

    JOB_STATE_CHANGE = "job_state_change"
    WORKER_STATE_CHANGE = "worker_state_change"
    WORKER_HEARTBEAT = "worker_heartbeat"
    QUEUE_SNAPSHOT = "queue_snapshot"


class JobState(str, Enum):
    """The unified states of a job. `unknown`: the worker that ran it is gone, and its end is not known."""

    UNKNOWN = "unknown"
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    RETRYING = "retrying"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True if the state is an end of a job."""
        return self in _FINAL_STATES


_FINAL_STATES = frozenset((JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED))


class WorkerState(str, Enum):
    """The states of a worker; `heartbeat` means only that it is alive."""

    ONLINE = "online"
    BUSY = "busy"
    IDLE = "idle"
    OFFLINE = "offline"
    HEARTBEAT = "heartbeat"


class Framework(str, Enum):
    """The frameworks of the contract; this agent reports Celery only."""

    CELERY = "celery"
    BULLMQ = "bullmq"
    SIDEKIQ = "sidekiq"


class _Wire(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )

    @validator_of_model(mode="wrap")
    @classmethod
    def _truncate_if_invalid(cls: type[_Model], data: Any, handler: ModelWrapValidatorHandler[_Model]) -> _Model:
        try:
            return handler(data)
        except ValidationError:
            if not isinstance(data, dict):
                raise
            return handler(_truncate_fields(cls, data))


class Job(_Wire):
    """One transition of one job. Times are RFC 3339 in UTC; `attempt` counts from 1; `progress` runs from 0 to 1."""

    external_id: Identifier
    name: JobName
    queue: ShortText | None = None
    state: JobState
    previous_state: JobState | None = None
    worker_id: Identifier | None = None
    attempt: Attempt | None = None
    max_retries: Count | None = None
    progress: Progress | None = None
    error: ErrorText | None = None
    stacktrace: StacktraceText | None = None
    created_at: Timestamp | None = None
    started_at: Timestamp | None = None
    completed_at: Timestamp | None = None
    extensions: dict[str, Any] | None = None


class Worker(_Wire):
    """One state of a worker. `active_jobs` and `concurrency` count jobs; `metadata` holds pool and versions."""

    external_id: NonEmptyText
    hostname: NonEmptyText
    pid: Count | None = None
    state: WorkerState
    concurrency: Count | None = None
    active_jobs: Count | None = None
    queues: list[str] | None = None
    metadata: dict[str, Any] | None = None


class Queue(_Wire):
    """The number of jobs that wait in a queue, and of its consumers."""

    name: ShortText
    depth: Count
    consumers: Count | None = None


class Event(_Wire):
    """One event, with exactly one of `job`, `worker` and `queue`.

    `timestamp` is when it happened in the observed process, not when it was captured or sent.
    """

    type: EventType
    timestamp: Timestamp
    framework: Framework = Framework.CELERY
    connection_id: ConnectionId
    job: Job | None = None
    worker: Worker | None = None
    queue: Queue | None = None

    @validator_of_model(mode="after")
    def _has_one_subject(self) -> Event:
        if (self.job is not None) + (self.worker is not None) + (self.queue is not None) != 1:
            raise PydanticCustomError("subject", "an event has exactly one of job, worker and queue")
        return self

    def to_wire(self) -> WireEvent:
        """Return the event as it is sent."""
        try:
            return self.model_dump(mode="json", exclude_none=True)
        except UnicodeEncodeError:  # a key that is not valid UTF-8, deep inside extensions
            valid = type(self).model_validate(_to_valid_deep(self.model_dump(exclude_none=True)))
            return valid.model_dump(mode="json", exclude_none=True)

    def to_json(self) -> bytes:
        """Return the event as one line of UTF-8 JSON, without the newline."""
        return encode(self.to_wire())


def truncated(event: WireEvent) -> WireEvent:
    """Return `event` with every text cut to its limit and made valid. Raises `ValidationError` if it is no event."""
    return Event.model_validate(event).to_wire()


def encode(event: Any) -> bytes:
    """Return an event, or a part of one, as one line of UTF-8 JSON without the newline."""
    try:
        return to_json(event, inf_nan_mode="null")  # NaN is not JSON: the whole batch would be refused
    except PydanticSerializationError:  # a text that is not valid UTF-8, perhaps deep inside extensions
        return to_json(_to_valid_deep(event), inf_nan_mode="null")


def to_valid_utf8(text: str) -> str:
    """Return `text` with each character that UTF-8 can't encode (lone surrogates) as a backslash escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def cut_to(text: str, limit: int, *, keep_end: bool = False) -> str:
    """Return `text` in at most `limit` characters; the mark ``…[N characters cut]`` replaces the rest.

    With `keep_end` the mark is in the middle, so that both ends of a long traceback can be read.
    """
    if len(text) <= limit:
        return text
    room = limit - len(f"…[{len(text)} characters cut]")
    tail = room // 2 if keep_end else 0
    mark = f"…[{len(text) - room} characters cut]"
    return text[: room - tail] + mark + (text[-tail:] if tail else "")


@cache
def limits(model: type[_Wire]) -> dict[str, int]:
    """Return the longest text that each field of `model` allows, by its wire name.

    It is read from the fields, in 0.1 ms: the model's JSON schema takes 3 ms, in each process of a pool.
    """
    return {
        field.alias or name: length
        for name, field in model.model_fields.items()
        for length in _max_lengths(field.annotation, field.metadata)
    }


def _max_lengths(annotation: Any, metadata: Iterable[Any]) -> Iterator[int]:
    """Yield the limits of a text, or of the text in a union with None."""
    for constraint in metadata:
        if isinstance(constraint, FieldInfo):
            yield from _max_lengths(None, constraint.metadata)
        elif (length := getattr(constraint, "max_length", None)) is not None:
            yield length
    for variant in get_args(annotation):
        if get_origin(variant) is Annotated:
            yield from _max_lengths(variant.__origin__, variant.__metadata__)


def _truncate_fields(model: type[_Wire], data: dict[str, Any]) -> dict[str, Any]:
    longest = limits(model)
    return {
        key: cut_to(to_valid_utf8(value), longest.get(to_camel(key), len(value) * 10), keep_end=key == "stacktrace")
        if isinstance(value, str)
        else value
        for key, value in data.items()
    }


def _to_valid_deep(value: Any) -> Any:
    if isinstance(value, str):
        return to_valid_utf8(value)
    if isinstance(value, dict):
        return {_to_valid_deep(key): _to_valid_deep(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_valid_deep(item) for item in value]
    return value
