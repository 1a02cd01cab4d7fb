"""What the engine is given: the queue of its messages, and its times in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sluice_agent.jobs.environments import Environments

QUEUE = "sluice.jobs"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How the engine works. Times are in seconds."""

    queue: str = QUEUE
    """The queue from which workers take attempts (`celery worker -Q`)."""
    slots: int | None = None
    """How many attempts the workers execute at a time; None: they are asked."""
    in_flight: float = 2.0
    """How many runs are claimed at a time, for each slot. A backlog stays in the database, where it keeps its order."""
    tasks: tuple[str, ...] = ()
    """Globs of the Celery tasks that may be jobs; none: no task may."""
    task_queues: tuple[str, ...] = ()
    """The queues that jobs may name for such tasks."""
    allows_private: bool = False
    """Whether requests may go to private addresses where others can reach the server. On loopback they always may."""
    environments: Environments | None = None
    """Of jobs that name one; None: such names are labels."""
    state_dir: Path | None = None
    """Where outcomes wait of attempts that the server executes itself; None: as for the agent's journal."""
    poll: float = 0.5
    """How often the engine looks for runs whose time has come."""
    lease: float = 4.0
    """For how long one process is the leader without extending the lease. Others look twice in that time."""
    silence: float = 60.0
    """Without a sign of life, after which an attempt is lost."""
    grace: float = 90.0
    """For how long no attempt is lost after a start, a takeover, or a failure of the database: workers could not report
    meanwhile."""
    overdue: float = 3_600.0
    """For how long after its deadline the outcome of an attempt may be under way: its worker is alive, and can't report
    it."""
    claim: float = 300.0
    """After which the message of a claim is looked for, and for how long a worker waits for a server that is away."""
    task_slack: float = 30.0
    """For how long an event of a Celery task may be under way after the moment by which it had to come."""
    keep: timedelta | None = timedelta(days=30)
    """How long runs stay after their end; those of a fault or a timeout three times as long, and dead letters for ever.
    None: all stay."""
    look: float = 5.0
    """How often the workers are asked, while there are runs."""
    search: float = 1.0
    """How often they are asked while none takes messages: runs wait for the answer of the first that is there again."""
    rare: float = 5.0
    """How often the engine looks for what happens rarely, such as attempts that are lost."""


DEFAULT_SLOTS = 20
"""Attempts at a time where it is not known how many the workers execute, and of the server itself without workers."""

ENGINE = EngineOptions()
