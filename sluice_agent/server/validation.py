"""The ingest contract as a server applies it: the JSON of a client becomes events that can be stored.

The limits are the model's. Unlike the model, nothing is corrected here: a value of another JSON type is refused, and so
is null. Events are plain objects by their wire names, validated by compiled schemas: every event passes here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from math import inf, isfinite
from typing import Annotated, Any, Literal, NoReturn, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from pydantic_core import from_json, to_json
from typing_extensions import NotRequired, TypedDict

from sluice_agent.event import (
    Attempt,
    ConnectionId,
    Count,
    ErrorText,
    Identifier,
    JobName,
    NonEmptyText,
    Progress,
    ShortText,
    StacktraceText,
    Timestamp,
)
from sluice_agent.model import WireEvent, to_valid_deep
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.event_decoder import event_decoder

ReceivedEvent: TypeAlias = WireEvent
"""An event that the contract allows, by its wire names: its type with ``_``, its connection's id in lower case."""

_DIGITS = 4_300  # of an integer that Python parses
_SMALL, _LARGE = Field(le=2**31 - 1), Field(le=2**63 - 1)  # what columns of the database hold
_STRICT = ConfigDict(extra="forbid", strict=True)
_UNSET_CONNECTION = "default"
_NUL = rb"\u0000"  # as JSON has it: no other spelling is allowed
_SUBJECTS = ("job", "worker", "queue")
_MOST_EVENTS = 40_000  # of the shortest that the contract allows, a body of 5 MB has fewer
_MOST_FAULTS = 50  # of one event that are described: each takes a kilobyte
_SEPARATORS = str.maketrans(".:", "__")
_JOB_TIMES = ("createdAt", "startedAt", "completedAt")
_MARKED = frozenset(("argsWhole", "message"))  # extensions with marks that the captured call is whole
_DATE = 10  # characters of 2026-02-27
_JobState = Literal["unknown", "queued", "scheduled", "active", "completed", "failed", "retrying", "cancelled"]


@with_config(_STRICT)
class _Job(TypedDict):
    externalId: Identifier
    name: JobName
    queue: NotRequired[ShortText]
    state: _JobState
    previousState: NotRequired[_JobState]
    workerId: NotRequired[Identifier]
    attempt: NotRequired[Annotated[Attempt, _SMALL]]
    maxRetries: NotRequired[Count]
    progress: NotRequired[Progress]
    error: NotRequired[ErrorText]
    stacktrace: NotRequired[StacktraceText]
    createdAt: NotRequired[Timestamp]
    startedAt: NotRequired[Timestamp]
    completedAt: NotRequired[Timestamp]
    extensions: NotRequired[dict[str, Any]]


@with_config(_STRICT)
class _Worker(TypedDict):
    externalId: NonEmptyText
    hostname: NonEmptyText
    pid: NotRequired[Count]
    state: Literal["online", "busy", "idle", "offline", "heartbeat"]
    concurrency: NotRequired[Count]
    activeJobs: NotRequired[Annotated[Count, _SMALL]]
    queues: NotRequired[list[str]]
    metadata: NotRequired[dict[str, Any]]


@with_config(_STRICT)
class _Queue(TypedDict):
    name: ShortText
    depth: Annotated[Count, _LARGE]
    consumers: NotRequired[Annotated[Count, _SMALL]]


@with_config(_STRICT)
class _Event(TypedDict):
    type: ShortText  # the contract lists its types by way of example
    timestamp: Timestamp
    framework: Literal["celery", "bullmq", "sidekiq"]
    connectionId: ConnectionId
    job: NotRequired[_Job]
    worker: NotRequired[_Worker]
    queue: NotRequired[_Queue]


_EVENT: TypeAdapter[Any] = TypeAdapter(_Event)
_TIMESTAMPS = TypeAdapter(list[Timestamp])
_CONNECTION_IDS = TypeAdapter(set[ConnectionId])


def event_schema() -> dict[str, Any]:
    """Return the JSON schema of an event, without references."""
    schema = _EVENT.json_schema()
    definitions = schema.pop("$defs")
    for name in _SUBJECTS:
        reference = schema["properties"][name]["$ref"]
        schema["properties"][name] = definitions[reference.rpartition("/")[2]]
    return schema


_DECODE = event_decoder(event_schema(), _MOST_EVENTS, {"timestamp", "connectionId", *_JOB_TIMES})
"""Without those patterns, which the model checks for all events at once."""


@dataclass(frozen=True, slots=True)
class ParsedBatch:
    """The events of a body that the contract allows, and the reason why each of the others is not."""

    events: list[ReceivedEvent]
    faults: list[str]


def parse_batch(body: bytes) -> ParsedBatch:
    """Return the events of a body ``{"events": [ … ]}``. An invalid one does not affect the others.

    Raises `RefusedError`: 400 for another body, 413 for more events than a body of the largest size can hold.
    """
    try:
        return ParsedBatch(parse_valid(body), [])
    except ValueError:
        return parse_each(body)


def parse_valid(body: bytes) -> list[ReceivedEvent]:
    """Return the events of a body in which all are valid: the same as `parse_each`, at a third of the cost.

    Raises `ValueError` for any other body, and for some: with NUL, an infinite number, or very deep extensions.
    """
    if _NUL in body:
        raise ValueError("NUL may be in a name")
    events = _DECODE(body)
    times = [time for event in events for time in _times_of(event)]
    _TIMESTAMPS.validate_python(times)
    for date in {time[:_DATE] for time in times}:
        _check_date(date)
    _CONNECTION_IDS.validate_python({event["connectionId"] for event in events})
    for event in events:
        _normalize(event)
    return events


def parse_each(body: bytes) -> ParsedBatch:
    """Return the events of a body, validated one after the other, and the faults. Raises as `parse_batch`."""
    events: list[ReceivedEvent] = []
    faults: list[str] = []
    may_have_nul = _NUL in body
    for index, data in enumerate(_parse_body(body)):
        try:
            if isinstance(data, ValueError):
                raise data
            event = parse_event(data)
            events.append(_with_visible_nul(event) if may_have_nul else event)
        except ValueError as error:
            _refuse_default_connection(data)
            faults.append(f"event {index}: {_describe(error)}")
    return ParsedBatch(events, faults)


def _refuse_default_connection(data: Any) -> None:
    """Raise `RefusedError` (400) for the ``connectionId`` that the vendor's agent sends if none is configured."""
    if isinstance(data, dict) and data.get("connectionId") == _UNSET_CONNECTION:
        message = (
            f'The connectionId is "{_UNSET_CONNECTION}" and must be a UUID: set SLUICE_CONNECTION_ID to that of a '
            "connection. sluice-agent key create --connection NAME --role ingest prints one with its key."
        )
        raise RefusedError(400, message, {"connectionId": "must be a UUID"})


def parse_event(data: Any) -> ReceivedEvent:
    """Return the event in `data`. Type names may have ``_``, ``.`` or ``:``. Raises `ValueError` with the reason.

    Any type is allowed with any one subject, but for one that names another subject: a client of the vendor may send
    types that the contract does not list.
    """
    event: ReceivedEvent = _EVENT.validate_python(data)
    _normalize(event)
    for time in _times_of(event):
        _check_date(time[:_DATE])
    extensions = event["job"].get("extensions") if "job" in event else None
    if extensions and not _MARKED.isdisjoint(extensions) and _has_infinite_number(extensions):
        _remove_whole_marks(event)
    return event


def _normalize(event: ReceivedEvent) -> None:
    """Give `event` its type with ``_`` and its connection's id in lower case. Raises `ValueError`, as `_type_of`."""
    event["type"] = _type_of(event["type"], "job" in event, "worker" in event, "queue" in event)
    event["connectionId"] = event["connectionId"].lower()


def _with_visible_nul(event: ReceivedEvent) -> ReceivedEvent:
    """Return the event with ␀ for each NUL in its names and ids: an address can't have one, nor PostgreSQL store it."""
    job, worker, queue = (event.get(subject) or {} for subject in _SUBJECTS)
    for fields, names in (
        (job, ("externalId", "name", "queue", "workerId")),
        (job.get("extensions") or {}, ("rootId", "parentId", "groupId")),
        (worker, ("externalId", "hostname")),
        (queue, ("name",)),
    ):
        for name in names:
            if isinstance(fields.get(name), str):
                fields[name] = fields[name].replace("\0", "␀")
    if worker.get("queues"):
        worker["queues"] = [name.replace("\0", "␀") for name in worker["queues"]]
    return event


def parse_stored(body: str) -> ReceivedEvent:
    """Return the event in a body that an older version stored. Raises `ValueError` with the reason."""
    try:
        data = _encodable(json.loads(body, parse_constant=_reject_constant, parse_int=_parse_integer))
        if isinstance(data, ValueError):
            raise data
        return parse_event(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(_describe(error)) from None


@lru_cache(maxsize=256)
def _type_of(event_type: str, *has_subjects: bool) -> str:
    """Return a type with ``_`` in it, for an event with these subjects. Raises `ValueError` if they don't agree."""
    subjects = [name for name, has_subject in zip(_SUBJECTS, has_subjects, strict=True) if has_subject]
    if len(subjects) != 1:
        raise ValueError(
            f"an event has exactly one of job, worker and queue, and not {' and '.join(subjects) or 'none'}"
        )
    event_type = event_type.translate(_SEPARATORS)
    named = event_type.partition("_")[0]
    if named != subjects[0] and named in _SUBJECTS:
        raise ValueError(f"the type {event_type} names a {named}, and the event has a {subjects[0]}")
    return event_type


def _times_of(event: ReceivedEvent) -> list[str]:
    """Return all timestamps of `event`."""
    times: list[str] = [event["timestamp"]]
    if "job" in event:
        job = event["job"]
        times += [job[name] for name in _JOB_TIMES if name in job]
    return times


@lru_cache(maxsize=1024)
def _check_date(date: str) -> None:
    """Raise `ValueError` if `date` is not one of the calendar: February has no 31st."""
    try:
        datetime.fromisoformat(date)
    except ValueError:
        raise ValueError(f"{date} is not a date of the calendar") from None


def _parse_body(body: bytes) -> Iterable[Any]:
    """Return the events in `body`, not validated; in place of one that can't be encoded again, a `ValueError`."""
    try:
        return _events_in(from_json(body, allow_inf_nan=False))
    except ValueError:  # not JSON; or with lone surrogates, or deeper than the fast parser goes
        return map(_encodable, _events_in(_parse_slowly(body)))


def _parse_slowly(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_reject_constant, parse_int=_parse_integer)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"The body is not JSON: {error}.") from None


def _events_in(content: Any) -> list[Any]:
    if not isinstance(content, dict) or not isinstance(content.get("events"), list) or len(content) != 1:
        raise RefusedError(400, 'The body must be {"events": [ … ]} and nothing else.')
    events: list[Any] = content["events"]
    if len(events) > _MOST_EVENTS:
        raise RefusedError(413, f"The batch has more than {_MOST_EVENTS} events. Send fewer at a time.")
    return events


def _encodable(data: Any) -> Any:
    try:
        event = json.loads(to_json(to_valid_deep(data)))  # raises ValueError where it is deeper than it will be read
        if event != data:
            _remove_whole_marks(event)
    except (ValueError, RecursionError) as error:
        return ValueError(str(error))
    return event


def _has_infinite_number(value: Any) -> bool:
    """Return whether a number in `value` is too large for a float: JSON allows 1e999, and it is stored as null."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, float) and not isfinite(item):
            return True
    return False


def _remove_whole_marks(event: Any) -> None:
    """Remove the marks by which a job could be sent again with its captured call: that is not stored as it was."""
    with suppress(AttributeError, KeyError, TypeError):  # the event may be of any form
        extensions = event["job"]["extensions"]
        extensions.pop("argsWhole", None)
        extensions["message"].pop("headersWhole", None)


def _describe(error: Exception) -> str:
    """Return `error` in one line, without the values that were sent: they belong to the user."""
    if isinstance(error, ValidationError):
        if error.error_count() > _MOST_FAULTS:
            return f"{error.error_count()} fields are not valid"
        faults = error.errors(include_input=False, include_url=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'event'}: {fault['msg']}" for fault in faults)
    return str(error)


def _parse_integer(digits: str) -> int | float:
    """Return an integer; one that is too long for Python becomes infinite, as a number that is too large for a float
    does: neither may affect the other events of its batch."""
    return int(digits) if len(digits) <= _DIGITS else inf


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")
