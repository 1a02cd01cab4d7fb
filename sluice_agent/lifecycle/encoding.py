"""Encode the facts of a job, a worker or a queue as an event, in the same way for every observer.

Used by `signals` and `monitor` alike, so that both report a transition with the same fields and under the same id.
Imports nothing of Celery: an observer passes the values of a signal or a message as plain ones.

A job's event is made as the line that will be sent, from parts that are written once for each attempt: this runs around
every user task, where building and dumping the model would take several times as long (`make bench` shows both).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from sluice_agent.lifecycle.identity import execution_id, run_in, transition_id, truncated_id, worker_event_id
from sluice_agent.lifecycle.timestamps import timestamp
from sluice_agent.lifecycle.transitions import Transition
from sluice_agent.model import (
    MAX_ERROR,
    MAX_IDENTIFIER,
    MAX_JOB_NAME,
    MAX_SHORT_TEXT,
    MAX_STACKTRACE,
    UNNAMED,
    EventType,
    Framework,
    JobState,
    WorkerState,
    cut_to,
    encode,
    to_valid_utf8,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

_FINAL = frozenset(state.value for state in JobState if state.is_final)
# A worker goes online once within these seconds, and offline: two observers read the time from its event.
_SAME_STATE_SECONDS = 1.0
_POOL_NAMES = {"thread": "threads"}  # by module, where the name on the command line differs
EARLIEST = "2001"  # no job is as old: an earlier time is not from the wall clock


class JobExtensions(TypedDict, total=False):
    """What all events of one attempt have beside the fields of the contract, by the names on the wire."""

    rootId: str
    parentId: str
    groupId: str
    priority: int | None
    eta: str | None
    expires: str | None
    redelivered: bool
    periodicTask: str
    taskName: str
    stamps: dict[str, Any] | None
    eager: bool


_NO_EXTENSIONS: JobExtensions = {}


class MessageOptions(TypedDict, total=False):
    """What a message has beside the arguments of its task, by the names on the wire; absent: Celery's default."""

    serializer: str
    timeLimit: float
    softTimeLimit: float
    ignoreResult: bool
    headers: dict[str, Any]
    headersWhole: bool
    canvas: list[str]


class CapturedCall(TypedDict, total=False):
    """The call that a message asks for, by the names on the wire; `argsWhole` if decoding it gives equal arguments."""

    args: Any
    kwargs: Any
    argsWhole: bool
    message: MessageOptions


class Extensions(CapturedCall, total=False):
    """What one event of a job has beside the fields of the contract, by its name on the wire; None: left out."""

    requeued: bool | None
    terminated: bool | None
    signum: str | None
    expired: bool | None
    reason: str | None
    eta: str | None
    result: Any


class RunDetails(Extensions, total=False):
    """What an event of a run may have beside its transition: see `JobEvents.event`."""

    error: str | None
    stacktrace: str | None
    runtime: float | None


class WorkerMetadata(TypedDict, total=False):
    """What an event of a worker has beside the fields of the contract, by its name on the wire."""

    pool: str
    software: str
    kombu: str
    python: str
    system: str
    agent: str
    heartbeatInterval: float
    """Seconds between two heartbeats: without any for longer a server can show the worker as offline."""
    dropped: dict[str, int]
    reason: str


class WorkerFields(TypedDict, total=False):
    """Fields of the contract's worker, by their names on the wire; None: left out."""

    activeJobs: int | None
    concurrency: int | None
    queues: list[str] | None


@dataclass(slots=True)  # not frozen: that alone would cost a task a microsecond
class JobFacts:
    """The facts that all transitions of one attempt of a job share.

    `run_name` and, in a pool process, its number identify the run: see `identity.run_of` and `identity.run_in`. An
    attempt that is only assumed is part of the ids, as most jobs have no other, and is not sent.
    """

    external_id: str
    name: str
    attempt: int = 1
    queue: str | None = None
    worker_id: str | None = None
    max_retries: int | None = None
    created_at: str | None = None
    run_name: str = ""
    extensions: JobExtensions = field(default_factory=JobExtensions)
    is_attempt_known: bool = True
    process: str = ""


class SharedText(NamedTuple):
    """What all events of one attempt of a job share, as text. It is made once, and passed on to other processes."""

    head: str
    """The event from the end of its timestamp to the job's state."""
    members: str
    """The members of the job's extensions, each followed by a comma."""


class JobEvents:
    """Encode the events of one attempt of one job, each as the line of JSON that is sent."""

    __slots__ = ("_created", "_extensions", "_id", "_text", "attempt", "external_id", "run_name")

    def __init__(self, connection_id: str, facts: JobFacts) -> None:
        self.external_id, self.attempt, self.run_name = facts.external_id, facts.attempt, facts.run_name
        self._created = facts.created_at if facts.created_at and facts.created_at > EARLIEST else ""
        self._extensions: JobExtensions = facts.extensions
        self._id = execution_id(connection_id, facts.external_id, facts.attempt, run_in(facts.run_name, facts.process))
        self._text: tuple[str, str] = shared_text(connection_id, facts)

    @property
    def is_eager(self) -> bool:
        """True if the job was published nowhere: its caller runs it."""
        return "eager" in self._extensions

    def event(
        self,
        transition: Transition,
        when: str,
        *,
        previous: JobState | None = None,
        started: str | None = None,
        error: str | None = None,
        stacktrace: str | None = None,
        progress: float | None = None,
        runtime: float | None = None,
        **extensions: Unpack[Extensions],
    ) -> bytes:
        """Return the event of `transition`.

        `when` and `started` are timestamps as `timestamp` writes them, `runtime` is in seconds. A start that is later
        than the event is left out. `extensions` are added to those of the facts; one that is None is left out.
        """
        name = transition.state._value_  # `value` is a property, and this runs around every task
        head, members = self._text
        if self._created > when:  # its producer's clock is ahead
            head = head.replace(f'"createdAt":"{self._created}"', f'"createdAt":"{when}"')
        job = f',"previousState":"{previous._value_}"' if previous is not None else ""
        if started is not None and EARLIEST < started <= when:
            job += f',"startedAt":"{started}"'
        if name in _FINAL:
            job += f',"completedAt":"{when}"'
        if progress is not None:
            job += f',"progress":{progress!r}'
        if error is not None:
            job += f',"error":{quoted(_truncated(error, MAX_ERROR))}'
        if stacktrace is not None:
            job += f',"stacktrace":{quoted(_truncated(stacktrace, MAX_STACKTRACE, keep_end=True))}'
        if extensions:
            own = self._extensions
            if not own.keys().isdisjoint(extensions):  # a retry has an ETA, and its next retry another one
                members = _members({key: value for key, value in own.items() if extensions.get(key) is None})
            members += _members(extensions)
        if runtime is not None:
            members += f'"runtime":{runtime:.6f},'
        event_id = self._id + name if progress is None else transition_id(self._id, name, progress)
        return _line(when, head, name, job, members, transition.celery_state, event_id)


class PlainJobEvents(JobEvents):
    """The same of a first attempt under a random id, whose shared text and scope of ids are known already."""

    __slots__ = ()

    def __init__(self, external_id: str, scope: str, head: str, members: str, created: str, run_name: str) -> None:
        self.external_id, self.attempt, self.run_name = external_id, 1, run_name
        self._created, self._text, self._extensions = created, (head, members), _NO_EXTENSIONS
        self._id = f"{external_id}.1.{scope}."


# The commonest events of such a job, at a third of the cost. No time in them may be earlier than the one before it.


def plain_receipt(external_id: str, scope: str, head: str, members: str, when: str) -> bytes:
    """Return the event that a job, as no run has begun, waits at `when`."""
    return (
        f'{{"type":"job_state_change","timestamp":"{when}{head}queued","extensions":{{{members}'
        f'"celeryState":"PENDING","eventId":"{external_id}.1.{scope}.queued"}}}}}}'
    ).encode()


def plain_start(external_id: str, scope: str, head: str, members: str, when: str) -> bytes:
    """Return the event of the start of a run at `when`."""
    return (
        f'{{"type":"job_state_change","timestamp":"{when}{head}active","startedAt":"{when}","extensions":{{{members}'
        f'"celeryState":"STARTED","eventId":"{external_id}.1.{scope}.active"}}}}}}'
    ).encode()


def plain_success(
    external_id: str, scope: str, head: str, members: str, when: str, started: str, runtime: float
) -> bytes:
    """Return the event of the end of a run, which succeeded at `when`."""
    return (
        f'{{"type":"job_state_change","timestamp":"{when}{head}completed","previousState":"active",'
        f'"startedAt":"{started}","completedAt":"{when}","extensions":{{{members}"runtime":{runtime:.6f},'
        f'"celeryState":"SUCCESS","eventId":"{external_id}.1.{scope}.completed"}}}}}}'
    ).encode()


def shared_text(connection_id: str, facts: JobFacts) -> SharedText:
    """Return what all events of the attempt with these facts share."""
    external_id = facts.external_id
    if len(external_id) > MAX_SHORT_TEXT or not external_id.isascii():
        external_id = job_id(external_id)
    created = f',"createdAt":"{facts.created_at}"' if facts.created_at and facts.created_at > EARLIEST else ""
    attempt = f',"attempt":{facts.attempt}' if facts.is_attempt_known else ""
    kind = shared_by_kind(connection_id, facts.name, facts.queue, facts.worker_id, facts.max_retries)
    return SharedText(
        f'{kind},"externalId":{quoted(external_id)}{attempt}{created},"state":"', _members(facts.extensions)
    )


def _line(when: str, head: str, state: str, job: str, members: str, celery_state: str, event_id: str) -> bytes:
    """Return the event of a job from its parts as text. `job` are further members of the job."""
    return (
        f'{{"type":"job_state_change","timestamp":"{when}{head}{state}"{job},'
        f'"extensions":{{{members}"celeryState":"{celery_state}","eventId":"{event_id}"}}}}}}'
    ).encode()


def worker_event(
    connection_id: str,
    hostname: str,
    pid: int,
    state: WorkerState,
    at: float,
    *,
    within: float = _SAME_STATE_SECONDS,
    metadata: WorkerMetadata,
    **fields: Unpack[WorkerFields],
) -> bytes:
    """Return the event of a state that the worker `hostname` (its node name) had at `at`.

    Two equal states `within` as many seconds are one event. `fields` are further fields of the contract's worker, by
    their wire names. Raises ValueError if the contract does not allow one of them.
    """
    kind = EventType.WORKER_HEARTBEAT if state is WorkerState.HEARTBEAT else EventType.WORKER_STATE_CHANGE
    event_id = worker_event_id(connection_id, hostname, state.value, pid, int(at / within))
    return encode(
        {
            "type": kind.value,
            "timestamp": timestamp(at),
            "framework": Framework.CELERY.value,
            "connectionId": connection_id,
            "worker": {
                "externalId": _named(hostname),
                "hostname": hostname.partition("@")[2] or hostname,
                **_counts(pid=pid or None),  # 0: the worker has not sent it
                "state": state.value,
                **_counts(concurrency=fields.get("concurrency"), activeJobs=fields.get("activeJobs")),
                **({"queues": queues} if (queues := fields.get("queues")) is not None else {}),
                "metadata": {**metadata, "eventId": event_id},
            },
        }
    )


def pool_name(module: str) -> str:
    """Return the name on the command line of the worker pool that `module` implements."""
    name = module.rpartition(".")[2]
    return _POOL_NAMES.get(name, name)


def job_id(value: Any) -> str:
    """Return a job's id as the contract allows it: one that a caller chooses may be a number, or of any length."""
    text = str(value)
    if len(text) <= MAX_SHORT_TEXT and text.isascii():
        return text
    return truncated_id(to_valid_utf8(text), MAX_IDENTIFIER)


def _truncated(text: str, limit: int, *, keep_end: bool = False) -> str:
    """Return `text` as the contract allows it in a field with this limit."""
    # Cut first, so that a text of 100 MB is not copied, and cut again: invalid characters become longer escapes.
    return cut_to(to_valid_utf8(cut_to(text, limit, keep_end=keep_end)), limit, keep_end=keep_end)


@lru_cache(maxsize=1024)
def shared_by_kind(
    connection_id: str, name: str, queue: str | None, worker_id: str | None, max_retries: int | None
) -> str:
    """Return what the events of all jobs of one kind share: from the end of the timestamp into the job."""
    text = f'","framework":"celery","connectionId":"{connection_id}","job":{{"name":'
    text += quoted(_truncated(name or UNNAMED, MAX_JOB_NAME))
    if queue:
        text += f',"queue":{quoted(_truncated(queue, MAX_SHORT_TEXT))}'
    if worker_id:
        text += f',"workerId":{quoted(_truncated(worker_id, MAX_IDENTIFIER))}'
    return text if max_retries is None else f'{text},"maxRetries":{max_retries}'


def _members(values: Mapping[str, Any]) -> str:
    """Return the members of a JSON object, each followed by a comma."""
    text = ""
    for name, value in values.items():
        if type(value) is str and value.isascii():
            text += f'"{name}":{quoted(value)},'
        elif type(value) is int or (type(value) is float and isfinite(value)):
            text += f'"{name}":{value!r},'
        elif value is not None:
            text += f'"{name}":{encode(value).decode()},'
    return text


def queue_event(connection_id: str, name: str, ready: int, consumers: int | None, at: float) -> bytes:
    """Return the snapshot of the queue `name`, in which `ready` jobs waited at `at`, in seconds since the epoch.

    Raises ValueError if the contract does not allow a value.
    """
    return encode(
        {
            "type": EventType.QUEUE_SNAPSHOT.value,
            "timestamp": timestamp(at),
            "framework": Framework.CELERY.value,
            "connectionId": connection_id,
            "queue": {"name": _truncated(_named(name), MAX_SHORT_TEXT), **_counts(depth=ready, consumers=consumers)},
        }
    )


def _named(name: str) -> str:
    """Return the name of a worker or a queue. Raises ValueError if it is empty: a whole batch would be refused."""
    if not name:
        raise ValueError("it has no name")
    return name


def _counts(**counts: int | None) -> dict[str, int]:
    """Return the counts that are known. Raises ValueError if one is none: a whole batch would be refused."""
    known = {name: count for name, count in counts.items() if count is not None}
    for name, count in known.items():
        if type(count) is not int or count < 0:
            raise ValueError(f"{name} is {count!r}, which is no count")
    return known
