"""Who is to be told to send events of tasks, and when again: until the worker says that it does, or is gone.

A worker comes online about a second before it hears anything, and one that is busy answers late: to have told it once
is not enough. Pure: no connection, no clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sluice_agent.monitor.view import WorkerView

_FIRST_PAUSE = 1.0  # seconds until a worker that has not answered is told again; then twice that, and so on
_LONGEST_PAUSE = 30.0


@dataclass(slots=True)
class _Standing:
    pid: int
    due: float
    pause: float = _FIRST_PAUSE
    is_willing: bool = False


class Enabling:
    """Each worker process is told, anew with each connection of ours, until it has acknowledged it."""

    def __init__(self) -> None:
        self._standings: dict[str, _Standing] = {}

    def due(self, online: Mapping[str, WorkerView], now: float) -> Collection[str]:
        """The names of those to tell, of the workers that are `online` at `now`, by the monotonic clock."""
        for name in self._standings.keys() - online.keys():
            del self._standings[name]
        return [name for name, view in online.items() if self._is_due(name, view.pid, now)]

    def acknowledged(self, worker: str) -> None:
        """It has said that it sends events of its tasks."""
        standing = self._standings.get(worker)
        if standing is not None:
            standing.is_willing = True

    def started(self, worker: str) -> None:
        """It says that it has just started: what another process of its name said is of no use."""
        self._standings.pop(worker, None)

    def forget(self) -> None:
        """A new connection: any of them may be another process by now."""
        self._standings.clear()

    def _is_due(self, name: str, pid: int, now: float) -> bool:
        standing = self._standings.get(name)
        if standing is None or standing.pid != pid:
            standing = self._standings[name] = _Standing(pid, now)
        if standing.is_willing or now < standing.due:
            return False
        standing.due = now + standing.pause
        standing.pause = min(standing.pause * 2, _LONGEST_PAUSE)
        return True
