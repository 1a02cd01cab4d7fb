"""Celery's vocabulary in ours: one way from what is known of a job or a worker to an event, for every observer.

Used by `signals` and `monitor` alike, so that the two tell the same transition in the same words and under the same
id. Imports nothing of Celery: what an observer has read from a signal or a message comes in as plain values.

A job's event is made as the line that will be sent, from parts that are written once for each attempt: this runs around
every user task, where building and dumping the model would take several times as long (`make bench` shows both).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from math import isfinite
from typing import Any

from sluice_agent.identity import execution_id, run_in, transition_id, truncated_id, worker_event_id
from sluice_agent.model import (
    UNNAMED,
    EventType,
    Framework,
    Job,
    JobState,
    WorkerState,
    cut_to,
    encode,
    limits,
    to_valid_utf8,
    truncated,
)
from sluice_agent.timestamps import timestamp

_FINAL = frozenset(state.value for state in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED))
_SHORTEST_LIMIT = 255  # characters: no text of the contract is allowed less
_SAME_STATE_SECONDS = (
    1.0  # seconds in which a worker goes online once, and offline: two observers have the moment from its event
)
_EARLIEST = "2001"  # no job is as old: what comes before it is no time of the wall clock's


@dataclass(slots=True)  # not frozen: that alone would cost a task a microsecond
class JobFacts:
    """What is true of every transition of one attempt of a job.

    `run` and, in a pool's process, its number name the execution: see `identity.run_of` and `identity.run_in`. An
    attempt that is only assumed is in the ids, as most jobs have no other, and is not sent.
    """

    external_id: str
    name: str
    attempt: int = 1
    queue: str | None = None
    worker_id: str | None = None
    max_retries: int | None = None
    created_at: str | None = None
    run: str = ""
    extensions: Mapping[str, Any] = field(default_factory=dict)
    is_attempt_known: bool = True
    process: str = ""


class JobEvents:
    """Writes the events of one attempt of one job, each as the line of JSON that is sent."""

    __slots__ = ("_created", "_extensions", "_frame", "_id", "facts")

    def __init__(self, connection_id: str, facts: JobFacts) -> None:
        self.facts = facts
        external_id, attempt = facts.external_id, facts.attempt
        self._id = execution_id(connection_id, external_id, attempt, run_in(facts.run, facts.process))
        if len(external_id) > _SHORTEST_LIMIT or not external_id.isascii():
            external_id = job_id(external_id)
        frame = _frame(connection_id, facts.name, facts.queue, facts.worker_id, facts.max_retries)
        self._created = facts.created_at if facts.created_at and facts.created_at > _EARLIEST else ""
        created = f',"createdAt":"{self._created}"' if self._created else ""
        number = f',"attempt":{attempt}' if facts.is_attempt_known else ""
        self._frame = f'{frame},"externalId":{quoted(external_id)}{number}{created},"state":"'
        self._extensions = _members(facts.extensions)

    def event(
        self,
        state: JobState,
        celery_state: str,
        when: str,
        *,
        previous: JobState | None = None,
        started: str | None = None,
        error: str | None = None,
        stacktrace: str | None = None,
        progress: float | None = None,
        runtime: float | None = None,
        **extensions: Any,
    ) -> bytes:
        """The transition to `state`, which Celery calls `celery_state`.

        `when` and `started` are times as `timestamp` writes them, `runtime` is in seconds. A start that is later than
        the event is left out. `extensions` are added to those of the facts; one that is None is left out.
        """
        word = state._value_  # `value` is a property, and this runs around every task
        before = f',"previousState":"{previous._value_}"' if previous is not None else ""
        start = f',"startedAt":"{started}"' if started is not None and _EARLIEST < started <= when else ""
        end = f',"completedAt":"{when}"' if word in _FINAL else ""
        frame = self._frame
        if self._created > when:  # its producer's clock is ahead
            frame = frame.replace(f'"createdAt":"{self._created}"', f'"createdAt":"{when}"')
        text = f'{{"type":"job_state_change","timestamp":"{when}{frame}{word}"{before}{start}{end}'
        if progress is not None:
            text += f',"progress":{progress!r}'
        if error is not None:
            text += f',"error":{quoted(_truncated("error", error))}'
        if stacktrace is not None:
            text += f',"stacktrace":{quoted(_truncated("stacktrace", stacktrace))}'
        told = self._extensions
        if extensions:
            kept = self.facts.extensions
            if not kept.keys().isdisjoint(extensions):  # a retry has an ETA, and its next one another
                told = _members({name: value for name, value in kept.items() if extensions.get(name) is None})
            told += _members(extensions)
        if runtime is not None:
            told += f'"runtime":{runtime:.6f},'
        event_id = self._id + word if progress is None else transition_id(self._id, word, progress)
        return f'{text},"extensions":{{{told}"celeryState":"{celery_state}","eventId":"{event_id}"}}}}}}'.encode()


def worker_event(
    connection_id: str,
    hostname: str,
    pid: int,
    state: WorkerState,
    at: float,
    *,
    within: float = _SAME_STATE_SECONDS,
    metadata: Mapping[str, Any],
    **about: Any,
) -> bytes:
    """A word of the worker `hostname` (its node name) at `at`. Two such words `within` as many seconds are one event.

    `about` are further fields of the contract's worker, by their wire names.
    """
    kind = EventType.WORKER_HEARTBEAT if state is WorkerState.HEARTBEAT else EventType.WORKER_STATE_CHANGE
    event_id = worker_event_id(connection_id, hostname, state.value, pid, int(at / within))
    event = truncated(
        {
            "type": kind.value,
            "timestamp": timestamp(at),
            "framework": Framework.CELERY.value,
            "connectionId": connection_id,
            "worker": {
                "externalId": hostname,
                "hostname": hostname.partition("@")[2] or hostname,
                **({"pid": pid} if pid else {}),  # 0: of a worker that does not say it
                "state": state.value,
                **about,
                "metadata": {**metadata, "eventId": event_id},
            },
        }
    )
    return encode(event)


def job_id(value: Any) -> str:
    """A job's id as the contract takes it: a caller's own may be a number, or of any length."""
    text = str(value)
    if len(text) <= _SHORTEST_LIMIT and text.isascii():
        return text
    return truncated_id(to_valid_utf8(text), limits(Job)["externalId"])


def _truncated(field_name: str, text: str) -> str:
    """`text` as the contract takes it in this field of a job."""
    limit, keep_end = limits(Job)[field_name], field_name == "stacktrace"
    # Cut first: of a text of 100 MB no copy is made. What is not valid grows as it is made so.
    return cut_to(to_valid_utf8(cut_to(text, limit, keep_end=keep_end)), limit, keep_end=keep_end)


@lru_cache(maxsize=1024)
def _frame(connection_id: str, name: str, queue: str | None, worker_id: str | None, max_retries: int | None) -> str:
    """What the events of all jobs of one kind have in common, from the timestamp's end to within the job."""
    text = f'","framework":"celery","connectionId":"{connection_id}","job":{{"name":'
    text += quoted(_truncated("name", name or UNNAMED))
    if queue:
        text += f',"queue":{quoted(_truncated("queue", queue))}'
    if worker_id:
        text += f',"workerId":{quoted(_truncated("workerId", worker_id))}'
    return text if max_retries is None else f'{text},"maxRetries":{max_retries}'


def _members(values: Mapping[str, Any]) -> str:
    """The members of a JSON object, each followed by a comma."""
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
    """The snapshot of the queue `name`, in which `ready` jobs waited at `at`, in seconds of the epoch."""
    queue = {"name": name, "depth": ready, "consumers": consumers}
    event = truncated(
        {
            "type": EventType.QUEUE_SNAPSHOT.value,
            "timestamp": timestamp(at),
            "framework": Framework.CELERY.value,
            "connectionId": connection_id,
            "queue": {field: value for field, value in queue.items() if value is not None},
        }
    )
    return encode(event)
