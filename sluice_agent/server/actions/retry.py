"""The message that runs a job once more: a pure function of its record, or the reason why there is none.

Whatever the first message had is kept, or the retry is refused. Texts that Python has printed are never evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice_agent.model import UNNAMED, Framework, JobState
from sluice_agent.server.actions.broker import StoredCall, TaskMessage
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.record.record import Record

RETRIED = (JobState.FAILED, JobState.CANCELLED)
"""The states of jobs that can be retried."""

REVOKED = (JobState.ACTIVE, JobState.QUEUED, JobState.SCHEDULED, JobState.RETRYING, JobState.UNKNOWN)
"""The states of jobs that can be revoked."""

CAPTURED = ("args", "kwargs", "argsWhole", "message")
"""The extensions that hold the call of a job."""

_CAPTURE = "set SLUICE_CAPTURE_ARGS=1 where the job is published"
_BACKEND = "a result backend with result_extended, named by --result-backend or -A, has them as well"
_CANVAS = {
    "chain": "The rest of its chain does not follow this run.",
    "chord": "Its chord does not count this run: the chord's body does not follow it.",
    "callbacks": "The tasks linked to its success do not follow this run.",
    "errbacks": "The tasks linked to its failure do not follow this run.",
}


@dataclass(frozen=True, slots=True)
class Retry:
    """The message of a retry, the call as it can be captured again, and notes on what differs from the first run."""

    message: TaskMessage
    call: Mapping[str, Any]
    notes: tuple[str, ...]


def task_name(record: Record) -> str:
    """Return the name of the job's task: it may have been published under another."""
    name = record["extensions"].get("taskName")
    return name if isinstance(name, str) else str(record["name"])


def has_whole_arguments(record: Record) -> bool:
    """Return whether the job's arguments were captured whole: then no result backend is needed."""
    return record["extensions"].get("argsWhole") is True


def retry_of(record: Record, stored: StoredCall | None) -> Retry:
    """Return the retry of a job; `stored` is what a result backend has of it.

    Raises `RefusedError` (400) with the reason why the job can't be retried.
    """
    _check_kind(record)
    name, queue = task_name(record), record["queue"]
    if not queue:
        raise RefusedError(400, "The job can't be retried: its queue is not known.")
    captured = record["extensions"]
    is_whole = has_whole_arguments(record)
    if is_whole:
        args, kwargs = captured.get("args"), captured.get("kwargs")
    elif stored is not None and stored.name == name:
        args, kwargs = stored.args, stored.kwargs
    else:
        raise RefusedError(400, _no_arguments(captured))
    if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict) or not all(map(_is_text, kwargs)):
        raise RefusedError(400, "The job can't be retried: its arguments are not a list and an object.")
    options = _options_of(captured, is_required=is_whole)
    message = TaskMessage(
        name,
        args,
        kwargs,
        queue,
        serializer=options.get("serializer", "json"),
        priority=_priority(captured.get("priority")),
        time_limit=options.get("timeLimit"),
        soft_time_limit=options.get("softTimeLimit"),
        ignore_result=options.get("ignoreResult") is True,
        shadow=record["name"] if record["name"] != name else None,
        headers=options.get("headers"),
        stamps=_object(captured.get("stamps")),
    )
    call = {key: captured[key] for key in CAPTURED if key in captured} if is_whole else {}
    if "canvas" in options:
        call["message"] = {key: value for key, value in options.items() if key != "canvas"}
    return Retry(message, call, tuple(_notes(record, options)))


def require_state(state: str, allowed: tuple[JobState, ...], action: str, *, subject: str = "The job is") -> None:
    """Raise `RefusedError` (400), which names the state, if `action`, such as retried, is not for jobs in it."""
    if state not in [other.value for other in allowed]:
        names = ", ".join(other.value for other in allowed)
        raise RefusedError(400, f"{subject} {state}: only a job in one of these states can be {action}: {names}.")


def _check_kind(record: Record) -> None:
    if record["framework"] != Framework.CELERY.value:
        raise RefusedError(400, f"The job is of {record['framework']}: only those of Celery can be retried.")
    if task_name(record) == UNNAMED:
        raise RefusedError(400, "The job can't be retried: the name of its task is not known.")


def _no_arguments(captured: Mapping[str, Any]) -> str:
    if "args" in captured or "kwargs" in captured:
        reason = "its arguments were not captured whole: they are redacted, too large, or not plain JSON"
        return f"The job can't be retried: {reason}. SLUICE_CAPTURE_ARGS=1 captures plain ones; {_BACKEND}."
    return (
        f"The job can't be retried: its arguments were not captured. {_CAPTURE[:1].upper()}{_CAPTURE[1:]}; {_BACKEND}."
    )


def _options_of(captured: Mapping[str, Any], *, is_required: bool) -> dict[str, Any]:
    """Return the options of the first message. Raises `RefusedError` if they can't be kept."""
    options = captured.get("message")
    if not isinstance(options, dict):
        if is_required:
            raise RefusedError(
                400, f"The job can't be retried: its message's options are not known. To know: {_CAPTURE}."
            )
        return {}
    headers, is_whole = options.get("headers", {}), options.get("headersWhole", "headers" not in options)
    if is_whole is not True or not isinstance(headers, dict):
        raise RefusedError(
            400, f"The job can't be retried: the headers of its message are not known. To know: {_CAPTURE}."
        )
    for name, kinds in (("serializer", (str,)), ("timeLimit", (int, float)), ("softTimeLimit", (int, float))):
        if name in options and type(options[name]) not in kinds:
            raise RefusedError(400, f"The job can't be retried: its {name} is not valid.")
    return options


def _notes(record: Record, options: Mapping[str, Any]) -> list[str]:
    extensions = record["extensions"]
    canvas = options.get("canvas")
    notes = [text for name, text in _CANVAS.items() if isinstance(canvas, list) and name in canvas]
    if extensions.get("groupId") and not (isinstance(canvas, list) and "chord" in canvas):
        notes.append("Its group does not count this run.")
    if not notes and (record["parentId"] or record["rootId"] not in (None, record["externalId"])):
        notes.append("It was part of a canvas: what follows it there does not follow this run.")
    if extensions.get("expires"):
        notes.append("It runs whenever a worker is free: its time of expiry is not kept.")
    if "message" not in extensions:
        notes.append(
            f"No options of its message are known: it is sent with Celery's defaults. To know more, {_CAPTURE}."
        )
    return notes


def _priority(value: Any) -> int | None:
    if value is None or (type(value) is int and value in range(256)):
        return value
    raise RefusedError(400, "The job can't be retried: its priority is not one that a broker has.")


def _object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) and value else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
