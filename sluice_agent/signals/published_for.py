"""What a publication is made for, where its message does not show it: beat's entry, a replacement, a lost process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

periodic_task: ContextVar[str | None] = ContextVar("sluice_agent_periodic_task", default=None)
"""The name of the schedule entry whose task beat publishes."""

retried: ContextVar[tuple[str, Mapping[str, str]] | None] = ContextVar("sluice_agent_retried", default=None)
"""The job that a worker's main process publishes again because a child was lost: its id, and its agent header."""

replaced: ContextVar[Mapping[str, dict[str, str]] | None] = ContextVar("sluice_agent_replaced", default=None)
"""The agent headers of the jobs that go on as other tasks, by their ids, while these are published."""

CALLS: list[object] = []
"""The variables that any thread of this process has set: while it is empty, none has to be read."""


def call_for(variable: ContextVar[T], value: T, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call `function`, and return its result; `variable`, one of those above, has `value` meanwhile."""
    CALLS.append(variable)
    token = variable.set(value)
    try:
        return function(*args, **kwargs)
    finally:
        variable.reset(token)
        CALLS.pop()
