"""The dates of what is reported of a task: in the order in which it happened, whatever the clocks say.

Producers and workers have clocks of their own, which disagree and are set. Where their order contradicts that of a
job's life, the later event is moved, and all that follows it as well: what was reported stands.
"""

from __future__ import annotations

from math import inf

from sluice_agent.model import JobState
from sluice_agent.monitor.task_store import Run, Task

MICROSECOND = 1e-6  # in seconds; what a timestamp can tell
_GAP = 4 * MICROSECOND  # for what may still be reported of the run before: that it is active, and how it ended
_DECIMALS = 6  # of a fraction of a second: moments that are rounded to them stay as far apart as they are
_ENDS = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


def date_of_waiting(task: Task, order: tuple[int, int], at: float) -> float:
    """When the task is reported to wait for the run of this place: after all runs before, and before that one."""
    latest = task.waiting_since if task.waiting_replacement >= 0 else task.previous_reported_at
    if task.last_run is None:
        return _after(latest, at, _GAP)
    runs = [run for run in task.runs if run.reported_at]
    latest = max([latest, *(run.reported_at for run in runs if run.order < order)])
    earliest = min((run.reported_started or run.reported_at for run in runs if run.order >= order), default=inf)
    return _before(earliest, _after(latest, at, _GAP))


def date_of_refusal(task: Task, at: float) -> float:
    """When the task is reported to be turned away: after all that was reported of it."""
    return _after(task.reported_at, at)


def date(task: Task, run: Run, state: JobState, at: float) -> float:
    """When `state` of `run` is reported to have begun; `at` is by its worker's clock. Notes it.

    A run that is moved lasts as long as it did.
    """
    latest = _reported_before(task, run)
    if run.started is not None and not run.reported_started:
        gap = _GAP if run.earlier is not None and run.earlier.is_live else MICROSECOND
        end = _reported_after(task, run, same_attempt=False)
        run.reported_started = latest = _before(end, _after(latest, run.started, gap), 2 * MICROSECOND)
    if state is JobState.ACTIVE:
        at = run.reported_started
    else:
        if run.started is not None and state is not JobState.UNKNOWN:  # the time of that is by our own clock
            at += run.reported_started - run.started
        at = _after(latest, at)
        if state not in _ENDS:  # another run, or the next attempt, has taken its place
            same_attempt = state is not JobState.RETRYING
            at = _before(_reported_after(task, run, same_attempt=same_attempt), at)
    run.reported_at = max(run.reported_at, at)
    return at


def _after(latest: float, at: float, gap: float = MICROSECOND) -> float:
    """`at`, or so much later than `latest`, as timestamps tell the two."""
    if at > latest + 2 * gap:
        return at
    return round(max(at, round(latest, _DECIMALS) + gap), _DECIMALS)


def _before(earliest: float, at: float, gap: float = MICROSECOND) -> float:
    """`at`, or so much earlier than `earliest`, as timestamps tell the two."""
    if at < earliest - 2 * gap:
        return at
    return round(min(at, round(earliest, _DECIMALS) - gap), _DECIMALS)


def record_agent_report(run: Run, state: JobState, at: float) -> None:
    """Its worker's own agent reports `state` of `run`, by the same clock."""
    run.reported_at = max(run.reported_at, at)
    if state is JobState.ACTIVE:
        run.reported_started = at


def _reported_before(task: Task, run: Run) -> float:
    """The latest time that was reported of `run` and of what comes before it; 0 where nothing was."""
    if task.waiting_order > run.order:
        latest = task.created or 0.0
    else:
        latest = task.waiting_since if task.waiting_replacement >= 0 else task.previous_reported_at
    earlier: Run | None = run
    while earlier is not None:
        latest = max(latest, earlier.reported_at)
        earlier = earlier.earlier
    return latest


def _reported_after(task: Task, run: Run, *, same_attempt: bool) -> float:
    """The earliest time that was reported of what comes after `run`; infinite where nothing was.

    Another run of the same attempt counts if `same_attempt`: two may be under way at once.
    """
    if task.last_run is run and task.pending is None and task.waiting_order <= run.order:
        return inf
    if task.pending is not None and task.pending.order > run.order:
        earliest = task.pending.at
    else:
        earliest = task.waiting_since if task.waiting_order > run.order else inf
    later_run = task.last_run
    while later_run is not None and later_run is not run:
        if later_run.reported_at and (same_attempt or later_run.order > run.order):
            earliest = min(earliest, later_run.reported_started or later_run.reported_at)
        later_run = later_run.earlier
    return earliest
