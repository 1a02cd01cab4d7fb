"""What workers change, put together: the changes of all requests that wait are one transaction."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from sqlalchemy import Connection

from sluice_agent.jobs.attempts.records import Spec
from sluice_agent.jobs.environments import Environments
from sluice_agent.jobs.execution.beat import note_beat
from sluice_agent.jobs.execution.finish import finish_attempts
from sluice_agent.jobs.execution.requests import FinishRequest, StartRequest
from sluice_agent.jobs.execution.start import StartRules, start_attempts
from sluice_agent.jobs.store.grouped import GroupedChanges
from sluice_agent.jobs.store.store import JobsStore


class AttemptChanges:
    """The changes of attempts in `store`, which `changes` makes. A result is there once it is committed.

    `environments` are those of jobs. `allows_private`: requests may go to private addresses.
    """

    def __init__(
        self,
        store: JobsStore,
        changes: GroupedChanges,
        environments: Environments | None = None,
        *,
        allows_private: bool,
    ) -> None:
        self._store = store
        self._changes = changes
        self._rules = StartRules(store.token_secret, allows_private, environments)

    def start(self, run_id: str, wanted: StartRequest) -> Future[Spec | None]:
        """Start an attempt of a run, and return its requests; None if it must not begin."""
        return self._changes.join(self._start, (run_id, wanted))

    def finish(self, run_id: str, report: FinishRequest) -> Future[str | None]:
        """Take the report of an attempt, and return the status of its run after it; None if that had ended."""
        return self._changes.join(self._finish, (run_id, report))

    def beat(self, executions: Mapping[str, str]) -> Future[list[str]]:
        """Record that executions go on, each with its run, and return those that are to be aborted."""
        return self._changes.submit(lambda writer: note_beat(writer, executions, self._store.moment))

    def _start(self, writer: Connection, wanted: Sequence[tuple[str, StartRequest]]) -> list[Spec | None]:
        return start_attempts(writer, wanted, self._store.moment, self._rules)

    def _finish(self, writer: Connection, reports: Sequence[tuple[str, FinishRequest]]) -> list[str | None]:
        return finish_attempts(writer, reports, self._store.moment, random.random)
