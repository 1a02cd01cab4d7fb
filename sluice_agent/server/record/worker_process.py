"""Which process has a worker's name, and since when: so the jobs of one before it are known to be lost. Pure functions.

A worker that is killed and started again has the name, and in a container also the process id, of the one before. Its
events show that: an agent reports ``online`` once, when its worker begins to take tasks, and an event that names
another process id comes from another process. The ``online`` of a sidecar shows no start: it comes with the first
event that the sidecar receives of the worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

PROCESS = "process"
"""Where a worker's stored fields have its `WorkerProcess`: the contract has no such field."""

_BY_AGENT = "agent"  # in metadata: the version of the agent, which only events of the worker's own process have


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """The process of the latest event, by its id, and that of the process before it. None: not known.

    Whatever started before `began`, in microseconds since 1970, was not started by this process. None: it is not known,
    or two processes report under the same name.
    """

    pid: int | None = None
    began: int | None = None
    other: int | None = None

    @classmethod
    def parse(cls, fields: Mapping[str, Any] | None) -> WorkerProcess | None:
        """Return the process that `to_json` has written; None for None."""
        return None if fields is None else cls(fields["pid"], fields["began"], fields["other"])

    def to_json(self) -> dict[str, int | None]:
        """Return the process as an object of JSON."""
        return {"pid": self.pid, "began": self.began, "other": self.other}


def process_after(
    before: WorkerProcess | None, worker: Mapping[str, Any], at: int, latest: int | None
) -> WorkerProcess:
    """Return the process after an event at the moment `at`, by its field `worker`. `latest` is the moment of the latest
    event before, None if there was none; events may arrive in any order."""
    is_start = worker["state"] == "online" and _BY_AGENT in (worker.get("metadata") or {})
    process = before or WorkerProcess()
    if is_start and at > (process.began or 0):
        process = replace(process, began=at)
    pid = worker.get("pid")
    if pid is None or pid == process.pid or (latest is not None and at < latest):
        return process
    if process.pid is None or latest is None:
        return replace(process, pid=pid)
    if is_start:
        return WorkerProcess(pid, process.began, process.pid)
    if pid == process.other:  # the process before this one goes on
        return WorkerProcess(pid, None, process.pid)
    return WorkerProcess(pid, max(latest, process.began or 0), process.pid)
