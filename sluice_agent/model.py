"""The unified model: the names, states and limits that the ingest contract sets, and the JSON that keeps to them.

Nothing of Celery, of files or of HTTP may enter here, nor pydantic, which costs a process 30 ms and 4 MB: `event.py`
has the classes of an event. An agent builds events from any values of its host, so a text that is too long is cut with
a mark and a text that is not valid UTF-8 is made valid: neither is an error.
"""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from json import JSONEncoder
from math import isfinite
from typing import Any, cast
from uuid import UUID

WireEvent = dict[str, Any]
"""An event as it is sent: the documented fields by their wire names, without those that have no value."""

TIMESTAMP = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z$"
)

UNNAMED = "unknown"
"""The name of a job whose name its observer does not know: the contract requires one."""

MAX_SHORT_TEXT = 255
"""Characters: of the name of a queue, for one. No text has a lower limit."""
MAX_IDENTIFIER = 512
MAX_JOB_NAME = 1024
MAX_ERROR = 10_000
MAX_STACKTRACE = 50_000


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


def encode(event: Any) -> bytes:
    """Return an event, or a part of one, as one line of UTF-8 JSON without the newline."""
    try:
        return _to_json(event).encode()
    except ValueError:  # NaN, which is not JSON, or a text that is not valid UTF-8, perhaps deep inside extensions
        return _to_json(to_valid_deep(event)).encode()


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


def to_valid_deep(value: Any) -> Any:
    """Return plain data with all its texts made valid, and None for each number that is not finite."""
    if isinstance(value, str):
        return to_valid_utf8(value)
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, dict):
        return {to_valid_deep(key): to_valid_deep(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_valid_deep(item) for item in value]
    return value


def _to_text(value: Any) -> str:
    """Return the text of a value that is not plain, as those of stamps may be: kombu's JSON carries all of these."""
    kind = type(value)
    if kind in (date, datetime, time):
        return cast("str", value.isoformat())
    if kind in (UUID, Decimal):
        return str(value)
    raise TypeError(f"{kind.__name__} is not JSON")


_to_json = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_to_text).encode
