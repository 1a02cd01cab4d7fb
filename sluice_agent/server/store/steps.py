"""A step is one event of a job as the database holds it: a key, and a compact body from which the event is rebuilt.

The body leaves away what the rows beside it know: the connection, and the job's external id and name.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any, NamedTuple

from msgspec.json import Encoder

from sluice_agent.model import EventType, Framework, encode
from sluice_agent.server.record.step import Step, step_of
from sluice_agent.server.validation import ReceivedEvent

KEY_BYTES = 8
_JOB_TYPE = EventType.JOB_STATE_CHANGE.value
_FRAMEWORK = Framework.CELERY.value
_encode_usual = Encoder().encode


class StoredStep(NamedTuple):
    """A row of `step`: the job's number, the event's key, the number of the name in it, and the rest of the event."""

    job: int
    key: bytes
    name: int
    body: bytes


def key_of(event: ReceivedEvent) -> bytes:
    """Return the key by which a second copy of `event` is found: of its ``eventId``, else of its whole content."""
    fields = _extensions(event)
    event_id = fields.get("eventId") if fields else None
    if isinstance(event_id, str) and event_id:
        return blake2b(event_id.encode(), digest_size=KEY_BYTES).digest()
    text = json.dumps(event, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=KEY_BYTES, person=b"content").digest()


def progress_key(step: Step, *, is_last: bool) -> bytes:
    """Return the key of the first or the last progress of a run: a run keeps no other, however often it reports."""
    text = json.dumps((*step.reporter, is_last))
    return blake2b(text.encode(), digest_size=KEY_BYTES, person=b"progress").digest()


def split_keys(keys: bytes) -> list[bytes]:
    """Return each of `keys`, which are joined."""
    return [keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES)]


def encode_body(event: ReceivedEvent) -> bytes:
    """Return the compact body of a job's `event`. Its type and framework are in it only if they are not the usual."""
    job = event["job"].copy()
    del job["externalId"], job["name"]
    if event["framework"] == _FRAMEWORK and event["type"] == _JOB_TYPE:
        body: tuple[Any, ...] = event["timestamp"], job
    else:
        body = event["timestamp"], job, event["framework"], event["type"]
    try:
        return _encode_usual(body)  # in half the time of the other
    except (UnicodeEncodeError, OverflowError):  # half of a surrogate pair, or an integer of more than 64 bits
        return encode(body)


def decode_body(body: bytes, connection_id: str, external_id: str, name: str) -> ReceivedEvent:
    """Return the event whose compact body is `body`."""
    timestamp, job, *more = json.loads(body)
    framework, event_type = more or (_FRAMEWORK, _JOB_TYPE)
    return {
        "type": event_type,
        "timestamp": timestamp,
        "framework": framework,
        "connectionId": connection_id,
        "job": {"externalId": external_id, "name": name, **job},
    }


def decode_step(body: bytes, connection_id: str, external_id: str, name: str) -> Step:
    """Return the step whose compact body is `body`."""
    event = decode_body(body, connection_id, external_id, name)
    return step_of(event, key_of(event))  # the stored key of progress is that of its run


def _extensions(event: ReceivedEvent) -> dict[str, Any] | None:
    if "job" in event:
        return event["job"].get("extensions")  # type: ignore[no-any-return] # the model has checked it
    return event["worker"].get("metadata") if "worker" in event else None
