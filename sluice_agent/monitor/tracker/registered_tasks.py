"""What workers report of the tasks that are registered with them."""

from __future__ import annotations

from sys import intern
from typing import Any

_MAX_NAMES = 10_000  # of tasks: a cluster with more does not exist
_ACKS_LATE = {"[acks_late=True]": True, "[acks_late=False]": False}


class RegisteredTasks:
    """The attributes of tasks, by name."""

    def __init__(self) -> None:
        self._acks_late: dict[str, bool] = {}

    def learn(self, reply: list[Any]) -> None:
        """Learn from the reply to `inspect registered`: texts such as ``"app.add [acks_late=True]"``."""
        for entry in reply:
            name, _, attributes = entry.partition(" ") if isinstance(entry, str) else ("", "", "")
            acks_late = _ACKS_LATE.get(attributes)
            if acks_late is not None and (name in self._acks_late or len(self._acks_late) < _MAX_NAMES):
                self._acks_late[intern(name)] = acks_late

    def is_acked_late(self, name: str) -> bool | None:
        """Return whether a task is acknowledged after it has run; None where no worker has reported it."""
        return self._acks_late.get(name)
