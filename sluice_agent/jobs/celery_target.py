"""Celery tasks as the endpoints of jobs: their addresses, the call that a payload makes, and which of them may be sent.

`celery://proj.tasks.send_invoice?queue=mail&args=1` names a task, the queue of its messages, and whether payloads have
its positional arguments as well. All of it is pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from sluice_agent.globs import matcher

SCHEME = "celery://"

_LONGEST_NAME = 255  # characters of a task or a queue
_PARAMETERS = ("queue", "args")
_ARGUMENTS = {"args": list, "kwargs": dict}
_KINDS = {"args": "a list", "kwargs": "an object"}
_NEVER = matcher(("celery.*", "sluice.*"))
_TASKS = "--jobs-tasks, or SLUICE_JOBS_TASKS"
_QUEUES = "--jobs-task-queues, or SLUICE_JOBS_QUEUES"


@dataclass(frozen=True, slots=True)
class CeleryTarget:
    """A task that a job calls. `queue` is None where the broker's own routing decides.

    `takes_args`: a payload is `{"args": […], "kwargs": {…}}`, and else the keyword arguments themselves.
    """

    task: str
    queue: str | None
    takes_args: bool


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a call."""

    args: list[Any]
    kwargs: dict[str, Any]


def is_task(url: str) -> bool:
    """Return whether an endpoint is a Celery task."""
    return url.startswith(SCHEME)


@lru_cache(maxsize=1024)
def parse_target(url: str) -> CeleryTarget:
    """Return the task that `url` names. Raises `ValueError`, a sentence without its full stop, if it names none."""
    try:
        parts = urlsplit(url)
        task = unquote(parts.netloc, errors="strict")
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), errors="strict")
    except ValueError as error:
        raise ValueError(f"it is no address of a task ({error})") from None
    if parts.path or parts.fragment or not _is_name(task):
        raise ValueError(
            "it must be celery:// and the name of a task, such as celery://shop.tasks.send_mail?queue=mail"
        )
    given = dict(pairs)
    if len(given) < len(pairs) or given.keys() - set(_PARAMETERS):
        raise ValueError("it may have the parameters queue and args, once each")
    queue, args = given.get("queue"), given.get("args", "0")
    if queue is not None and not _is_name(queue):
        raise ValueError(f"its queue must be a name of 1 to {_LONGEST_NAME} characters")
    if args not in ("0", "1"):
        raise ValueError("its parameter args must be 1, where payloads have positional arguments, or 0")
    return CeleryTarget(task, queue, args == "1")


def target_of(url: str) -> CeleryTarget | None:
    """Return the task that is the endpoint `url`, which is valid; None if it is one of HTTP."""
    return parse_target(url) if is_task(url) else None


def arguments_in(target: CeleryTarget, payload: str) -> Arguments:
    """Return the arguments of the call that a payload, which is JSON, makes.

    Raises `ValueError`, with a sentence without its full stop, if it makes none.
    """
    value = json.loads(payload)
    if not isinstance(value, dict):
        raise ValueError(  # noqa: TRY004 - as for the other faults of a payload
            "it must be an object: its fields are the keyword arguments of the task"
        )
    if not target.takes_args:
        return Arguments([], value)
    if value.keys() - _ARGUMENTS.keys():
        raise ValueError('it must be {"args": […], "kwargs": {…}}, as the endpoint has ?args=1')
    for name, kind in _ARGUMENTS.items():
        if not isinstance(value.get(name, kind()), kind):
            raise ValueError(f"its {name} must be {_KINDS[name]}")  # noqa: TRY004 - the same
    return Arguments(value.get("args", []), value.get("kwargs", {}))


@dataclass(frozen=True, slots=True)
class TaskRules:
    """Which tasks a server sends: those whose names match a glob of `tasks`, and to which `queues` beside their own.

    Without globs none. Celery's own tasks, and those of the jobs API, never.
    """

    tasks: Sequence[str] = ()
    queues: Sequence[str] = ()
    has_broker: bool = False

    def fault(self, target: CeleryTarget) -> str | None:
        """Return the reason why a task may not be sent, a sentence without its full stop; None if it may."""
        if not self.has_broker:
            return (
                f"the task {target.task} needs a broker: start sluice-agent serve with --broker URL, or with -A and "
                "the Celery app"
            )
        if _NEVER(target.task):
            return f"the task {target.task} is internal: it is never a job"
        if not matcher(tuple(self.tasks))(target.task):
            reason = "does not name it" if self.tasks else "is not set"
            return f"the task {target.task} may not be a job: {_TASKS}, of sluice-agent serve {reason}"
        if target.queue is not None and target.queue not in self.queues:
            reason = "does not name it" if self.queues else "is not set"
            return f"the queue {target.queue} may not be used: {_QUEUES}, of sluice-agent serve {reason}"
        return None


def _is_name(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable() and " " not in text
