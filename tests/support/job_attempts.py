"""A database of the jobs API whose engine is the test: it triggers and claims runs, and plays their workers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import Row, select

from sluice_agent.jobs.attempts.records import Outcome, Spec
from sluice_agent.jobs.definitions.dependencies import create_dependency
from sluice_agent.jobs.definitions.jobs import Change, Job, create_job, find_job, switch_jobs, update_job
from sluice_agent.jobs.definitions.pause import pause_job, resume_job
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.engine.firings import fire
from sluice_agent.jobs.environments import Environments
from sluice_agent.jobs.execution.beat import note_beat
from sluice_agent.jobs.execution.finish import finish_attempts
from sluice_agent.jobs.execution.requests import FinishRequest, StartRequest
from sluice_agent.jobs.execution.start import StartRules, start_attempts
from sluice_agent.jobs.runs.changes import change
from sluice_agent.jobs.runs.requests import TriggerItem
from sluice_agent.jobs.runs.runs import find_run
from sluice_agent.jobs.runs.schedules import Schedule, find_schedule
from sluice_agent.jobs.runs.tickets import add_ticket, new_ticket
from sluice_agent.jobs.runs.transitions import Claimed, Event, Lost
from sluice_agent.jobs.runs.trigger import make_run, want
from sluice_agent.jobs.runs.waiting import obstacle_of
from sluice_agent.jobs.store.schema import attempt, circuit, run
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.store.database import Database

SECOND = 1_000_000
SUCCESS: dict[str, Any] = {"status_code": 200, "result": '{"sent": 1}'}
FAILURE: dict[str, Any] = {"status_code": 500, "error": "500: no room", "error_class": "server"}
_AUTHOR = "test"


@dataclass
class Attempts:
    """The database of a test. `now` is its clock, which `pass_` moves on."""

    database: Database
    now: datetime = datetime(2026, 2, 27, 12, tzinfo=timezone.utc)
    names: Any = field(default_factory=itertools.count)
    environments: Environments | None = None

    def __post_init__(self) -> None:
        self.store = JobsStore(self.database, lambda: self.now)

    def pass_(self, seconds: float) -> None:
        """Move the clock on."""
        self.now += timedelta(seconds=seconds)

    def job(self, **settings: Any) -> Job:
        """Make a job."""
        slug = f"job-{next(self.names)}"
        given = {"name": "Mail", "slug": slug, "endpoint_url": f"https://example.com/{slug}", **settings}
        with self.store.writing() as writer:
            return create_job(writer, "project", JobSettings(**given), self._change(), enabled=True)

    def update(self, job: Job, **settings: Any) -> Job:
        """Give a job other settings, as a new version."""
        with self.store.writing() as writer:
            live = find_job(writer, job.id, None)
            changed = JobSettings(**{**live.settings.model_dump(), **settings})
            return update_job(writer, live, changed, self._change(), enabled=live.enabled)

    def read_job(self, job_id: str) -> Job:
        """Return a job as it is now."""
        with self.store.reading() as reader:
            return find_job(reader, job_id, None)

    def switch(self, job: Job, *, enabled: bool) -> None:
        """Enable or disable a job."""
        with self.store.writing() as writer:
            switch_jobs(writer, [job.id], None, self._change(), enabled=enabled)

    def pause(self, job: Job) -> None:
        """Pause a job."""
        with self.store.writing() as writer:
            pause_job(writer, find_job(writer, job.id, None), self._change())

    def resume(self, job: Job) -> None:
        """Resume a job."""
        with self.store.writing() as writer:
            resume_job(writer, find_job(writer, job.id, None), self._change())

    def fire(self) -> int:
        """Make the firings whose time has come, and return of how many jobs."""
        with self.store.writing() as writer:
            return fire(writer, self.store.moment)

    def schedule(self, job: Job) -> Schedule:
        """Return the schedule of a job."""
        with self.store.reading() as reader:
            return find_schedule(reader, job.id, None)

    def runs(self, job: Job) -> list[Row[Any]]:
        """Return the rows of a job's runs, the oldest first."""
        with self.store.reading() as reader:
            query = select(run).where(run.c.job_id == job.id).order_by(run.c.created_at, run.c.id)
            return list(reader.execute(query).all())

    def depend(self, job: Job, on: Job) -> None:
        """Let runs of a job wait for those of another one."""
        with self.store.writing() as writer:
            create_dependency(writer, job, on.id, "completed", self.store.moment)

    def trigger(self, job: Job, **item: Any) -> str:
        """Trigger a run, and return its id."""
        with self.store.writing() as writer:
            live = find_job(writer, job.id, None)
            wanted = want(live, TriggerItem(**item), item.get("idempotency_key"), self.store.moment)
            return str(make_run(writer, live, wanted, self._change()).id)

    def offer(self, run_id: str, event: Event, max_attempts: int = 1) -> Row[Any] | None:
        """Let an event happen to a run, as the engine does."""
        with self.store.writing() as writer:
            row = find_run(writer, run_id, None)
            return change(writer, row, event, self.store.moment, max_attempts)

    def claim(self, run_id: str) -> str:
        """Claim a run, and return its ticket."""
        ticket = new_ticket()
        hashes = add_ticket(self.row(run_id).ticket_hash, ticket)
        assert self.offer(run_id, Claimed(self.store.moment + 60 * SECOND, hashes)) is not None
        return ticket

    def lose(self, run_id: str, max_attempts: int = 3) -> None:
        """Take the worker of a run for lost."""
        self.offer(run_id, Lost(self.store.moment + SECOND), max_attempts)

    def start(self, run_id: str, ticket: str, execution: str, attempt: int = 1) -> Spec | None:
        """Ask for the requests of an attempt."""
        return self.start_together([(run_id, ticket, execution)], attempt)[0]

    def start_together(self, asked: list[tuple[str, str, str]], attempt: int = 1) -> list[Spec | None]:
        """Ask for the requests of attempts in one transaction, each by its run, its ticket and its execution."""
        wanted = [
            (run_id, StartRequest(attempt=attempt, ticket=ticket, execution=execution))
            for run_id, ticket, execution in asked
        ]
        rules = StartRules(self.store.token_secret, allows_private=False, environments=self.environments)
        with self.store.writing() as writer:
            return start_attempts(writer, wanted, self.store.moment, rules)

    def begin(self, run_id: str, attempt: int = 1) -> str:
        """Claim and start an attempt, and return its execution."""
        execution = self.name()
        assert self.start(run_id, self.claim(run_id), execution, attempt) is not None
        return execution

    def finish(self, run_id: str, execution: str, attempt: int = 1, **outcome: Any) -> str | None:
        """Report the end of an attempt."""
        return self.finish_together([(run_id, execution, outcome or SUCCESS)], attempt)[0]

    def finish_together(self, ends: list[tuple[str, str, dict[str, Any]]], attempt: int = 1) -> list[str | None]:
        """Report ends of attempts in one transaction, each by its run, its execution and its outcome."""
        reports = [
            (run_id, FinishRequest(attempt=attempt, execution=execution, outcome=Outcome(**outcome)))
            for run_id, execution, outcome in ends
        ]
        with self.store.writing() as writer:
            return finish_attempts(writer, reports, self.store.moment, lambda: 0.5)

    def beat(self, executions: dict[str, str]) -> list[str]:
        """Report executions as going on."""
        with self.store.writing() as writer:
            return note_beat(writer, executions, self.store.moment)

    def name(self) -> str:
        """Return the name of another execution."""
        return f"execution-{next(self.names):08}"

    def row(self, run_id: str) -> Row[Any]:
        """Return the row of a run."""
        with self.store.reading() as reader:
            return find_run(reader, run_id, None)

    def why_it_waits(self, run_id: str) -> str:
        """Return the sentence that says why a run does not start; "" if there is none."""
        with self.store.reading() as reader:
            return obstacle_of(reader, find_run(reader, run_id, None), self.store.moment).sentence or ""

    def attempts(self, run_id: str) -> list[Row[Any]]:
        """Return the rows of a run's attempts, the first one first."""
        with self.store.reading() as reader:
            query = select(attempt).where(attempt.c.run_id == run_id).order_by(attempt.c.retries)
            return list(reader.execute(query).all())

    def all_runs(self) -> list[Row[Any]]:
        """Return the rows of all runs."""
        with self.store.reading() as reader:
            return list(reader.execute(select(run)).all())

    def circuits(self) -> list[Row[Any]]:
        """Return the circuits that are not closed without failures."""
        with self.store.reading() as reader:
            return list(reader.execute(select(circuit)).all())

    def _change(self) -> Change:
        return Change(_AUTHOR, self.store.moment)
