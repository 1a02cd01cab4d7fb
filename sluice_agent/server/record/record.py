"""A job's record as a pure function of its events, independent of the order in which they arrived."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from sluice_agent.server.record.history import History
from sluice_agent.server.record.ids import job_id
from sluice_agent.server.record.step import Fields, Reported, Step
from sluice_agent.server.record.summary import State, Summary, id_or_none, walk
from sluice_agent.server.timestamps import timestamp_of, timestamp_or_none

_STATE_EXTENSIONS = ("reason", "terminated", "signum", "expired")  # extensions that explain one state, not the job
_CALL = ("args", "kwargs", "argsWhole", "message")  # extensions of one publication, which belong together
_EMPTY_IF_NULL = ("eta", "expires")  # the vendor's SDK sends null for none

Record = dict[str, Any]
"""The response of ``GET /api/jobs/{id}`` without ``recentExecutions``: the documented fields, None if unknown."""


class Walked(Protocol):
    """What a record and the page of a job need of its steps."""

    @property
    def summary(self) -> Summary:
        """The summary of all steps."""

    @property
    def first(self) -> Sequence[State]:
        """The states that belong before all others, of steps that may have come later."""

    @property
    def states(self) -> Sequence[State]:
        """The last states, or all."""

    @property
    def earlier(self) -> int:
        """The number of states before these."""

    @property
    def past(self) -> Sequence[History]:
        """The history at the end of each run that was over during these states."""

    @property
    def steps(self) -> Sequence[Reported]:
        """All steps, in the order in which a later one replaces the fields of one before."""

    @property
    def last_state_steps(self) -> Sequence[Reported]:
        """Those of them that report the present state."""


def record_of(steps: Iterable[Step]) -> Record:
    """Return the record of the job whose steps are `steps`. There is at least one.

    Fields of the run (start, end, progress, error) come from the latest run; fields of the job from the latest event
    that has them, where a name replaces none. A time that no event names is taken from the transition that it belongs
    to, ``createdAt`` from the first known moment.
    """
    return record_of_walk(walk(steps))


def record_of_walk(walked: Walked) -> Record:
    """Return the record of the job whose steps are `walked`, as `record_of` does."""
    summary, last = walked.summary, walked.last_state_steps
    facts = summary.facts
    latest = {key: value for step in walked.steps for key, value in step.job.items()}
    extensions = _extensions_of(walked.steps, last)
    connection_id, external_id = walked.steps[-1].event["connectionId"].lower(), latest["externalId"]
    return {
        "id": job_id(connection_id, external_id),
        "externalId": external_id,
        "framework": facts.framework,
        "connectionId": connection_id,
        "name": facts.name,
        "queue": facts.queue,
        "tags": _object(extensions.get("tags")),
        "state": summary.state,
        "stateChangedAt": timestamp_of(summary.changed_at),
        "previousState": summary.history.previous_state,
        "createdAt": timestamp_of(summary.created_at),
        "scheduledFor": timestamp_or_none(summary.scheduled_for),
        "startedAt": timestamp_or_none(summary.started_at),
        "completedAt": timestamp_or_none(summary.completed_at),
        "durationMs": summary.duration_ms,
        "workerId": facts.worker,
        "attempt": summary.attempt,
        "maxRetries": latest.get("maxRetries"),
        "progress": summary.history.run.progress,
        "args": extensions.get("args"),
        "result": extensions.get("result"),
        "error": summary.error,
        "stacktrace": next((step.job["stacktrace"] for step in reversed(last) if "stacktrace" in step.job), None),
        "parentId": id_or_none(extensions.get("parentId")),
        "rootId": facts.root_id,
        "extensions": extensions,
        "stateHistory": state_history(walked.states),
    }


def state_history(states: Iterable[State]) -> list[dict[str, Any]]:
    """Return states as a record shows them."""
    return [{"state": state, "timestamp": timestamp_of(at // 1_000)} for state, at in states]


def merged(steps: Sequence[Reported]) -> Fields | None:
    """Return what stands for `steps` among those of which a record is made; None if there are none."""
    return _fields_of(steps, ("externalId", "maxRetries"), _latest_extensions(steps)) if steps else None


def merged_of_state(steps: Sequence[Reported]) -> Fields | None:
    """Return what stands for `steps`, which report the present state, among such steps."""
    extensions = {
        name: step.extensions[name] for step in steps for name in _STATE_EXTENSIONS if name in step.extensions
    }
    return _fields_of(steps, ("stacktrace",), extensions) if steps else None


def _fields_of(steps: Sequence[Reported], names: Sequence[str], extensions: dict[str, Any]) -> Fields:
    job = {name: step.job[name] for step in steps for name in names if name in step.job}
    return Fields({"connectionId": steps[-1].event["connectionId"]}, job, extensions)


def _extensions_of(steps: Iterable[Reported], last_state_steps: Iterable[Reported]) -> dict[str, Any]:
    """Return the latest value of each extension.

    Those that explain a state are the present state's only, and those of a call the latest call's.
    """
    extensions = _latest_extensions(steps)
    extensions.pop("eventId", None)
    for name in _STATE_EXTENSIONS:
        extensions.pop(name, None)
    for step in last_state_steps:
        extensions |= {name: step.extensions[name] for name in _STATE_EXTENSIONS if name in step.extensions}
    return extensions


def _latest_extensions(steps: Iterable[Reported]) -> dict[str, Any]:
    extensions: dict[str, Any] = {}
    for step in steps:
        if any(name in step.extensions for name in _CALL):  # another call: a replacement's
            for name in _CALL:
                extensions.pop(name, None)
        extensions |= {
            key: value for key, value in step.extensions.items() if value is not None or key not in _EMPTY_IF_NULL
        }
    return extensions


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
