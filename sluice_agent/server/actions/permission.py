"""Which jobs may be retried: an ingest key must never become the execution of a task.

Events can be forged by everyone who may send them. So a task's name is checked against a list that no event can
change, and no job is retried of a connection to which any key may send events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from sluice_agent.globs import matcher
from sluice_agent.server.access.principal import Role, key_command
from sluice_agent.server.actions.broker import Broker
from sluice_agent.server.errors import RefusedError

_NEVER = matcher(("celery.*", "sluice.*"))
_KNOWN_SECONDS = 60.0  # that the names of live workers are used, before they are asked again
_MISSING_SECONDS = 5.0  # the same for a name that no worker had


@dataclass(frozen=True, slots=True)
class _Registered:
    names: frozenset[str]
    at: float


class Permission:
    """The rules. `tasks` are globs of names; without any, the names count that live workers have registered.

    `is_keyed` is whether a connection, by number, accepts events with its own keys only. `monotonic` is a clock in
    seconds.
    """

    def __init__(self, tasks: tuple[str, ...], is_keyed: Callable[[int], bool], monotonic: Callable[[], float]) -> None:
        self._tasks = tasks
        self._is_keyed = is_keyed
        self._monotonic = monotonic
        self._registered: dict[int, _Registered] = {}
        self._lock = Lock()

    def check(self, name: str, connection: int, broker: Broker) -> None:
        """Raise `RefusedError` (403) if a job of this task and connection may not be retried.

        Raises `BrokerAwayError` if the workers can't be asked.
        """
        if not self._is_keyed(connection):
            raise RefusedError(
                403,
                "Any key may send events to this connection, also forged ones: its jobs can't be retried. Make a key "
                f"of its own with {key_command(Role.INGEST)}, and let its agents use that.",
            )
        if _NEVER(name):
            raise RefusedError(403, f"The task {name} is internal: it is never retried.")
        if self._tasks:
            if not matcher(self._tasks)(name):
                raise RefusedError(403, f"The task {name} may not be retried: SLUICE_ACTIONS_TASKS does not name it.")
        elif not self._is_registered(name, connection, broker):
            raise RefusedError(
                403,
                f"The task {name} may not be retried: no live worker of this broker has it. Start one, or name the "
                "tasks in SLUICE_ACTIONS_TASKS.",
            )

    def _is_registered(self, name: str, connection: int, broker: Broker) -> bool:
        with self._lock:
            known = self._registered.get(connection)
            age = self._monotonic() - known.at if known else _KNOWN_SECONDS
            if known is None or age >= _KNOWN_SECONDS or (name not in known.names and age >= _MISSING_SECONDS):
                known = self._registered[connection] = _Registered(broker.registered_tasks(), self._monotonic())
        return name in known.names
