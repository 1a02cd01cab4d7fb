"""Dates of reported events: in the order in which these happened, even where clocks disagree.

The clocks of producers and workers differ, and are set at times. Where their order contradicts that of a job's life,
the later event is moved, and all that follows it as well: events that were reported keep their dates.
"""

from __future__ import annotations

from math import inf

from sluice_agent.model import JobState
from sluice_agent.monitor.tracker.tasks import ACTIVE, RETRYING, UNKNOWN, MessageVersion, Run, Task

MICROSECOND = 1e-6  # in seconds; the resolution of a timestamp
_GAP = 4 * MICROSECOND  # leaves time for two more events of the previous run: that it is active, and its end
_DECIMALS = 6  # of a second: times that are rounded to them keep their distance


def date_of_waiting(task: Task, version: MessageVersion, at: float) -> float:
    """Return the date of waiting for a run of this message: after all runs before it, and before that run."""
    latest = task.waiting_since if task.is_wait_reported else task.previous_reported_at
    if task.last_run is None:
        return _after(latest, at, _GAP)
    runs = [run for run in task.runs if run.reported_at]
    latest = max([latest, *(run.reported_at for run in runs if run.order < version)])
    earliest = min((run.reported_started or run.reported_at for run in runs if run.order >= version), default=inf)
    return _before(earliest, _after(latest, at, _GAP))


def date_of_refusal(task: Task, at: float) -> float:
    """Return the date of the task's refusal: after every date reported of it."""
    return _after(task.reported_at, at)


def record_date(task: Task, run: Run, state: JobState, at: float) -> float:
    """Record the date of `state` of `run`, and return it; `at` is by its worker's clock.

    A run that is moved keeps its duration.
    """
    latest = _reported_before(task, run)
    if run.started is not None and not run.reported_started:
        gap = _GAP if run.previous is not None and run.previous.is_live else MICROSECOND
        end = _reported_after(task, run, same_attempt=False)
        run.reported_started = latest = _before(end, _after(latest, run.started, gap), 2 * MICROSECOND)
    if state is ACTIVE:
        at = run.reported_started
    else:
        if run.started is not None and state is not UNKNOWN:  # its time is by our own clock
            at += run.reported_started - run.started
        at = _after(latest, at)
        if not state.is_final:  # another run, or the next attempt, follows
            same_attempt = state is not RETRYING
            at = _before(_reported_after(task, run, same_attempt=same_attempt), at)
    run.reported_at = max(run.reported_at, at)
    return at


def _after(latest: float, at: float, gap: float = MICROSECOND) -> float:
    """Return `at`, but not before `latest` and a `gap`, as timestamps show them."""
    if at > latest + 2 * gap:
        return at
    return round(max(at, round(latest, _DECIMALS) + gap), _DECIMALS)


def _before(earliest: float, at: float, gap: float = MICROSECOND) -> float:
    """Return `at`, but not after `earliest` less a `gap`, as timestamps show them."""
    if at < earliest - 2 * gap:
        return at
    return round(min(at, round(earliest, _DECIMALS) - gap), _DECIMALS)


def record_agent_report(run: Run, state: JobState, at: float) -> None:
    """Record that the worker's agent reports `state` of `run`, by the same clock."""
    run.reported_at = max(run.reported_at, at)
    if state is ACTIVE:
        run.reported_started = at


def _reported_before(task: Task, run: Run) -> float:
    """Return the latest date reported of `run` and of what comes before it; 0 if there is none."""
    if task.waiting_version > run.order:
        latest = task.created or 0.0
    else:
        latest = task.waiting_since if task.is_wait_reported else task.previous_reported_at
    earlier_run: Run | None = run
    while earlier_run is not None:
        latest = max(latest, earlier_run.reported_at)
        earlier_run = earlier_run.previous
    return latest


def _reported_after(task: Task, run: Run, *, same_attempt: bool) -> float:
    """Return the earliest date reported of what comes after `run`; infinite if there is none.

    With `same_attempt`, another run of the same attempt counts: two may be under way at once.
    """
    order = run.order
    if task.last_run is run and task.pending is None and task.waiting_version <= order:
        return inf
    if task.pending is not None and task.pending.version > order:
        earliest = task.pending.at
    else:
        earliest = task.waiting_since if task.waiting_version > order else inf
    later_run = task.last_run
    while later_run is not None and later_run is not run:
        if later_run.reported_at and (same_attempt or later_run.order > order):
            earliest = min(earliest, later_run.reported_started or later_run.reported_at)
        later_run = later_run.previous
    return earliest
