"""What there is to do, as the engine reads it before each round: by one statement, as rounds are many."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Select, case, func, select

from sluice_agent.jobs.engine import firings, moves
from sluice_agent.jobs.runs.replays import HAS_REPLAY
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.schema import can_be_claimed, is_claimed, run
from sluice_agent.jobs.task_events.follower import HAS_OPEN_TASKS
from sluice_agent.jobs.task_events.revocations import HAS_REVOCATIONS


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at one moment: whether the time of runs and of firings has come, whether runs can be claimed,
    whether dead letters are replayed, whether Celery tasks are under way, and whether some are to be revoked; and how
    many requests are claimed or executed, and executed."""

    is_due: bool
    has_firing: bool
    has_ready: bool
    has_replay: bool
    has_tasks: bool
    revokes: bool
    under_way: int
    executing: int


def look(reader: Connection, now: int) -> Look:
    """Return what there is to do."""
    return Look(*reader.execute(_LOOK, {"now": now, "most": 1}).all()[0])


def _look() -> Select[tuple[bool, bool, bool, bool, bool, bool, int, int]]:
    is_executing = case((run.c.status == Status.EXECUTING.value, 1), else_=0)
    under_way = (
        select(func.count().label("under_way"), func.coalesce(func.sum(is_executing), 0).label("executing"))
        .where(is_claimed, run.c.task_id.is_(None))
        .subquery()
    )
    return select(
        moves.HAS_DUE,
        firings.HAS_DUE,
        select(run.c.id).where(can_be_claimed).exists(),
        HAS_REPLAY,
        HAS_OPEN_TASKS,
        HAS_REVOCATIONS,
        under_way.c.under_way,
        under_way.c.executing,
    )


_LOOK = _look()
