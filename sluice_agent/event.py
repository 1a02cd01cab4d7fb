"""The classes of an event: `Event` and its subjects, with every limit that the ingest contract sets.

Names are snake_case in Python and camelCase on the wire; a field that is unknown is absent, never null. They are for a
user's hook and the tests of an app: events are encoded without them. A server validates what it receives by the same
types of fields, without any correction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError
from pydantic import model_validator as validator_of_model
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from sluice_agent.model import (
    MAX_ERROR,
    MAX_IDENTIFIER,
    MAX_JOB_NAME,
    MAX_SHORT_TEXT,
    MAX_STACKTRACE,
    TIMESTAMP,
    EventType,
    Framework,
    JobState,
    WireEvent,
    WorkerState,
    cut_to,
    encode,
    to_valid_deep,
    to_valid_utf8,
)

_Model = TypeVar("_Model", bound="_Wire")

Timestamp = Annotated[str, Field(pattern=TIMESTAMP)]  # RFC 3339 in UTC; \d would take any script's digits
Count = Annotated[int, Field(ge=0, strict=True)]
Attempt = Annotated[int, Field(ge=1, strict=True)]
Progress = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False, strict=True)]
NonEmptyText = Annotated[str, Field(min_length=1)]
ShortText = Annotated[str, Field(min_length=1, max_length=MAX_SHORT_TEXT)]
Identifier = Annotated[str, Field(min_length=1, max_length=MAX_IDENTIFIER)]
JobName = Annotated[str, Field(min_length=1, max_length=MAX_JOB_NAME)]
ErrorText = Annotated[str, Field(max_length=MAX_ERROR)]
StacktraceText = Annotated[str, Field(max_length=MAX_STACKTRACE)]
ConnectionId = Annotated[
    str, Field(pattern=r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$")
]


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
            valid = type(self).model_validate(to_valid_deep(self.model_dump(exclude_none=True)))
            return valid.model_dump(mode="json", exclude_none=True)

    def to_json(self) -> bytes:
        """Return the event as one line of UTF-8 JSON, without the newline."""
        return encode(self.to_wire())


@cache
def _limits(model: type[_Wire]) -> dict[str, int]:
    """Return the longest text that each field of `model` allows, by its wire name.

    It is read from the fields, in 0.1 ms: the model's JSON schema takes 3 ms.
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
    longest = _limits(model)
    return {
        key: cut_to(to_valid_utf8(value), longest.get(to_camel(key), len(value) * 10), keep_end=key == "stacktrace")
        if isinstance(value, str)
        else value
        for key, value in data.items()
    }
