"""A line of the journal: how the lines that this package adds are built, and how any line is recognised by its bytes.

    {"type":"job_state_change",…}                    an event, for every destination, as it will be sent
    {"for":"ackly","event":{"type":…}}               an event for one destination only
    {"dropped":{"disk": 3}}                          the numbers of events that were dropped, by reason
    {"dropped":{"journal_full": 3},"for":"ackly"}    … by one destination only

Every event that is captured, counted or thinned out is classified here, by bytes rather than by parsing: that runs
around every user task, and for every pending line of a backlog. The events themselves are written by
`lifecycle.encoding` and by `Event.to_json`: a test holds their bytes to what this file expects.

Two classifiers differ on purpose. The *lane* of a line decides which file it is written to, and so what is evicted
first: only an event that the next one of the same worker or queue replaces is a vital one. Its *kind* decides what a
daily budget drops: a worker's change between busy and idle counts as a heartbeat there, as each heartbeat repeats the
number of active jobs, but it is written to the lane of the transitions, in their order.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache

from sluice_agent.model import EventType
from sluice_agent.stats import checked_int

EVENTS = "events"
VITALS = "vitals"  # heartbeats and queue snapshots: evicted first when the directory is full
LANES = (EVENTS, VITALS)

_EVENT = b'{"type":"'
_BRACE = ord("}")
_DROPS = b'{"dropped":'
_ADDRESSED = b'{"for":"'
_JOB, _WORKER, _HEARTBEAT, _SNAPSHOT = (
    _EVENT + kind.value.encode() + b'"'
    for kind in (
        EventType.JOB_STATE_CHANGE,
        EventType.WORKER_STATE_CHANGE,
        EventType.WORKER_HEARTBEAT,
        EventType.QUEUE_SNAPSHOT,
    )
)
_PROGRESS = b'"celeryState":"PROGRESS"'
_LOAD_CHANGES = (b'"state":"busy"', b'"state":"idle"')

JOB_INDEX, JOB_BYTE = len(_EVENT), _JOB[len(_EVENT)]
"""The event of a job has this byte at this index, and no vital one has: one comparison is enough."""
VITAL_PREFIXES = (_HEARTBEAT, _SNAPSHOT)
"""What the events of the lane `VITALS` begin with; all others are `EVENTS`. No function: a call costs a task 50 ns."""


class Kind(Enum):
    """A kind of event, by what it is worth when not all can be sent; the least worth is first."""

    HEARTBEAT = "heartbeat"
    QUEUE = "queue"
    PROGRESS = "progress"
    TRANSITION = "transition"


def kind_of(line: bytes) -> Kind:
    """Return the kind of the event in `line`. A worker's busy and idle count as heartbeats."""
    if line.startswith(_HEARTBEAT):
        return Kind.HEARTBEAT
    if line.startswith(_SNAPSHOT):
        return Kind.QUEUE
    if line.startswith(_WORKER):
        return Kind.HEARTBEAT if any(mark in line for mark in _LOAD_CHANGES) else Kind.TRANSITION
    return Kind.PROGRESS if _PROGRESS in line else Kind.TRANSITION


def is_event(line: bytes) -> bool:
    """Return whether `line` is an event for every destination, as far as its two ends show."""
    return line.startswith(_EVENT) and line.endswith(b"}")


def are_events(lines: Sequence[bytes]) -> bool:
    """Return whether all `lines` are events, as `is_event` does: a call for each would take twice as long."""
    return not [line for line in lines if not line.startswith(_EVENT) or line[-1] != _BRACE]


def may_be_job_change(line: bytes, states: tuple[str, ...]) -> bool:
    """Return whether the event in `line` may be a job's change to one of `states`: only then it must be parsed."""
    return line.startswith(_JOB) and any(mark in line for mark in _state_marks(states))


def address(event: bytes, destination: str) -> bytes:
    """Return the line that holds `event` for `destination` only."""
    return address_prefix(destination) + event + b"}"


def address_prefix(destination: str) -> bytes:
    """Return what a line with an event for `destination` only begins with."""
    return _ADDRESSED + destination.encode() + b'","event":'


def is_addressed(line: bytes) -> bool:
    """Return whether `line` holds an event for one destination only."""
    return line.startswith(_ADDRESSED)


def addressed_event(line: bytes, prefix: bytes) -> bytes | None:
    """Return the event in a line that begins with `prefix`, an `address_prefix`; None if the line holds none."""
    event = line[len(prefix) : -1] if line.startswith(prefix) else b""
    return event if is_event(event) else None


def drop_line(counts: Mapping[str, int], destination: str = "") -> bytes:
    """Return the line that records dropped events by reason, for one destination or for all."""
    return _DROPS + json.dumps(counts).encode() + (f',"for":"{destination}"}}' if destination else "}").encode()


def drops_in(line: bytes, destination: str) -> Counter[str]:
    """Return the drops that `line` records for `destination`, by reason; any other line counts as a corrupt event."""
    if line.startswith(_DROPS):
        try:
            record = json.loads(line)
            if record.get("for") not in (None, destination):
                return Counter()
            return Counter({str(reason): checked_int(count) for reason, count in record["dropped"].items()})
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
    return Counter(corrupt=1)


@lru_cache(maxsize=8)
def _state_marks(states: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(f'"state":"{state}"'.encode() for state in states)
