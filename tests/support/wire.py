"""A strict validator of ingest requests, written from the contract alone.

Its functions return a list of sentences, one for each fault: none for a request that the vendor would accept. It never
imports the agent's model: the two are written separately so that one catches the other's mistakes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

Check = Callable[[Any], str | None]

TYPES = {
    "job_state_change": "job",
    "worker_state_change": "worker",
    "worker_heartbeat": "worker",
    "queue_snapshot": "queue",
}
FRAMEWORKS = ("celery", "bullmq", "sidekiq")
JOB_STATES = ("unknown", "queued", "scheduled", "active", "completed", "failed", "retrying", "cancelled")
WORKER_STATES = ("online", "busy", "idle", "offline", "heartbeat")
PAYLOADS = ("job", "worker", "queue")

_TIMESTAMP = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(\.\d+)?Z", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")


def text(longest: int | None = None, *, empty: bool = False) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, str):
            return f"is {_kind(value)}, not a string"
        if not value and not empty:
            return "is empty"
        if longest is not None and len(value) > longest:
            return f"has {len(value)} characters, {longest} are allowed"
        return None

    return check


def one_of(allowed: tuple[str, ...]) -> Check:
    return lambda value: None if isinstance(value, str) and value in allowed else f"is {value!r}, not one of {allowed}"


def integer(least: int) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return f"is {_kind(value)}, not an integer"
        return f"is {value}, less than {least}" if value < least else None

    return check


def fraction(value: Any) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return f"is {_kind(value)}, not a number"
    return None if 0 <= value <= 1 else f"is {value}, outside 0..1"


def timestamp(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"is {_kind(value)}, not a string"
    match = _TIMESTAMP.fullmatch(value)
    if not match:
        return f"is {value!r}, not ISO 8601 with Z"
    try:
        datetime.fromisoformat(match[1])
    except ValueError:
        return f"is {value!r}, which is no real date"
    return None


def uuid(value: Any) -> str | None:
    return None if isinstance(value, str) and _UUID.fullmatch(value) else f"is {value!r}, not a UUID"


def open_object(value: Any) -> str | None:
    return None if isinstance(value, dict) else f"is {_kind(value)}, not an object"


def strings(value: Any) -> str | None:
    if not isinstance(value, list):
        return f"is {_kind(value)}, not a list"
    wrong = [item for item in value if not isinstance(item, str) or not item]
    return f"holds {wrong[0]!r}, not only names" if wrong else None


ENVELOPE: dict[str, Check] = {
    "type": one_of(tuple(TYPES)),
    "timestamp": timestamp,
    "framework": one_of(FRAMEWORKS),
    "connectionId": uuid,
    "job": open_object,
    "worker": open_object,
    "queue": open_object,
}
JOB: dict[str, Check] = {
    "externalId": text(512),
    "name": text(1024),
    "queue": text(255),
    "state": one_of(JOB_STATES),
    "previousState": one_of(JOB_STATES),
    "workerId": text(512),
    "attempt": integer(1),
    "maxRetries": integer(0),
    "progress": fraction,
    "error": text(10_000, empty=True),
    "stacktrace": text(50_000, empty=True),
    "createdAt": timestamp,
    "startedAt": timestamp,
    "completedAt": timestamp,
    "extensions": open_object,
}
WORKER: dict[str, Check] = {
    "externalId": text(),
    "hostname": text(),
    "pid": integer(1),
    "state": one_of(WORKER_STATES),
    "concurrency": integer(0),
    "activeJobs": integer(0),
    "queues": strings,
    "metadata": open_object,
}
QUEUE: dict[str, Check] = {"name": text(255), "depth": integer(0), "consumers": integer(0)}

_FIELDS = {"job": JOB, "worker": WORKER, "queue": QUEUE}
_REQUIRED = {
    "": ("type", "timestamp", "framework", "connectionId"),
    "job": ("externalId", "name", "state"),
    "worker": ("externalId", "hostname", "state"),
    "queue": ("name", "depth"),
}


def faults(event: Any) -> list[str]:
    """Return the ways in which an event breaks the contract, as sentences that begin with the field's path."""
    if not isinstance(event, dict):
        return [f"event is {_kind(event)}, not an object"]
    result = list(_object_faults("", event, ENVELOPE))
    present = [name for name in PAYLOADS if name in event]
    if len(present) != 1:
        result.append(f"event holds {present or 'none'} of {PAYLOADS}, exactly one is required")
    elif event.get("type") in TYPES and TYPES[event["type"]] != present[0]:
        result.append(f"type is {event['type']!r} but the payload is {present[0]}")
    for name in present:
        if isinstance(event[name], dict):
            result.extend(_object_faults(name, event[name], _FIELDS[name]))
    result.extend(_text_faults("event", event))
    return result


def body_faults(body: bytes) -> list[str]:
    """Return the ways in which a request body breaks the contract, its events' faults included."""
    duplicated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in items]
        duplicated.extend(f"field {name!r} occurs twice in one object" for name in set(names) if names.count(name) > 1)
        return dict(items)

    def constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")

    try:
        parsed = json.loads(body.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except UnicodeDecodeError as error:
        return [f"body is not UTF-8: {error}"]
    except (ValueError, RecursionError) as error:
        return [f"body is not JSON: {error}"]
    if not isinstance(parsed, dict):
        return [f"body is {_kind(parsed)}, not an object"]
    result = [*duplicated, *(f"body has the unknown field {name!r}" for name in parsed if name != "events")]
    events = parsed.get("events")
    if not isinstance(events, list):
        return [*result, f"events is {_kind(events)}, not a list"]
    for index, event in enumerate(events):
        result.extend(f"events[{index}]: {fault}" for fault in faults(event))
    return result


def _object_faults(path: str, value: dict[str, Any], fields: Mapping[str, Check]) -> Iterator[str]:
    prefix = f"{path}." if path else ""
    for name in _REQUIRED[path]:
        if name not in value:
            yield f"{prefix}{name} is missing"
    for name, content in value.items():
        if name not in fields:
            yield f"{prefix}{name} is no field of the contract"
        elif content is None:
            yield f"{prefix}{name} is null; it must be absent instead"
        elif fault := fields[name](content):
            yield f"{prefix}{name} {fault}"


def _text_faults(path: str, value: Any) -> Iterator[str]:
    """Yield the values that valid UTF-8 JSON can't hold, at any depth: lone surrogates and non-finite numbers."""
    if isinstance(value, str):
        if _SURROGATE.search(value):
            yield f"{path} holds a lone surrogate"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{path} is {value}, which is not JSON"
    elif isinstance(value, dict):
        for name, content in value.items():
            if not isinstance(name, str):
                yield f"{path} has the key {name!r}, not a string"
                continue
            yield from _text_faults(f"{path} (a key)", name)
            yield from _text_faults(f"{path}.{name}", content)
    elif isinstance(value, list):
        for index, content in enumerate(value):
            yield from _text_faults(f"{path}[{index}]", content)


def _kind(value: Any) -> str:
    return "absent or null" if value is None else type(value).__name__
