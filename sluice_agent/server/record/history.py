"""The history of a job's states: which transitions are legal, given that clocks and observers disagree.

Only an end that corrects a terminal state may follow it in the same run. Any other event after it begins a new run:
a higher attempt, a redelivery, an execution that is known to have started after the other one had ended, or a
replacement, whose attempts are counted from 1 again.

The history is a left fold over the steps in their order: `begun_by` the first, `followed_by` each of the others. What
the fold carries is bounded, so that the history can be kept beside the job and go on from its last step.
"""

from __future__ import annotations

from sys import intern
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from sluice_agent.server.record.error_location import location_of
from sluice_agent.server.record.step import ENDED, WAITING, Reporter, Step
from sluice_agent.server.timestamps import to_instant


class Run(Struct, frozen=True, gc=False, array_like=True):
    """One execution of one attempt, with the wait before it. Times are instants, None if they are not known."""

    queued: int | None
    """The beginning of the wait, if it is counted with this run."""
    ready: int | None
    """The instant from which the job could have started."""
    start: int | None
    started: int | None
    """The start as records show it: the time that an event names, else that of the event which reports the start."""
    progress: float | None
    reporter: Reporter | None
    worker: str | None


class Entry(Struct, frozen=True, gc=False, array_like=True):
    """One state of the job, with the fields of all events that report it. The first of them began it."""

    state: str
    at: int
    attempt: int
    is_redelivered: bool
    """The broker had delivered the job before this run."""
    created: int | None
    completed: int | None
    error: str | None
    location: str | None
    """Where the error was raised: see `location_of`."""
    reported_previous: str | None


class History(Struct, frozen=True, gc=False, array_like=True):
    """A job's states: of the first, and of the last and its run, what shows which step may follow."""

    runs: int
    first_waits: bool
    first_at: int
    previous: str | None
    """The state before the last."""
    entry: Entry
    run: Run

    @property
    def previous_state(self) -> str | None:
        """The state before the last; if there is none, the one that the last event names."""
        return self.previous or self.entry.reported_previous

    @property
    def completed(self) -> int | None:
        """The instant of the run's end, if the last state is its end."""
        if self.entry.state not in ENDED:
            return None
        return self.entry.at if self.entry.completed is None else self.entry.completed


Placement = Literal["excluded", "first", "progress", "same", "next", "new run"]
"""Where a step belongs. First: before all others, as it is the dispatch. Progress: a further report, which changes
nothing else, so that the last one need not be kept. Same: it completes the last state. Next: a new state, same run."""


def begun_by(step: Step) -> History:
    """Return the history that begins with `step`."""
    queued = step.timestamp if step.is_waiting else None
    run = _run_with(Run(queued, queued, None, None, None, None, None), step)
    return History(1, step.is_waiting, step.timestamp, None, _entry(step, step.job.get("attempt", 1)), run)


def followed_by(history: History, step: Step) -> tuple[Placement, History]:
    """Return where `step` belongs, which is after all steps of `history` in their order, and the history with it."""
    runs, first_waits, first_at, previous = history.runs, history.first_waits, history.first_at, history.previous
    entry, run = history.entry, history.run
    attempt = step.job.get("attempt") or _attempt_after(entry, step)
    placement = _placement(history, step, attempt)
    if placement == "next":
        run = _run_with(run, step)
        return placement, History(runs, first_waits, first_at, entry.state, _entry(step, attempt), run)
    if placement == "new run":
        run = _run_with(_new_run(history, step), step)
        return placement, History(runs + 1, first_waits, first_at, entry.state, _entry(step, attempt), run)
    if placement == "same":
        run = _run_with(run, step)
        return placement, History(runs, first_waits, first_at, previous, _entry_with(entry, step), run)
    if placement == "progress":
        run = replace(run, progress=step.job["progress"])
        return placement, History(runs, first_waits, first_at, previous, entry, run)
    return placement, _preceded_by(history, step) if placement == "first" else history


def _placement(history: History, step: Step, attempt: int) -> Placement:
    entry, run = history.entry, history.run
    if step.state == entry.state and attempt == entry.attempt and not _is_new_run(history, step):
        return "progress" if step.is_progress and step.reporter == run.reporter else "same"
    if not history.first_waits and _is_dispatch(step):
        return "first"
    if _may_follow(history, step, attempt):
        is_same_run = attempt == entry.attempt and not step.is_waiting and not _is_new_run(history, step)
        return "next" if is_same_run else "new run"
    return "first" if _was_dispatched_before(history, step) else "excluded"


def _attempt_after(last: Entry, step: Step) -> int:
    """Return the attempt of a step that does not name it: the last one, or after a retry the next, unless the step
    reports a waiting state, another retry or progress."""
    is_next = last.state == "retrying" and step.state not in (*WAITING, "retrying") and not step.is_progress
    return last.attempt + is_next


def _entry(step: Step, attempt: int) -> Entry:
    job = step.job
    return Entry(
        step.state,
        step.timestamp,
        attempt,
        step.is_redelivered,
        step.created,
        to_instant(job["completedAt"]) if "completedAt" in job else None,
        job.get("error"),
        location_of(job["stacktrace"]) if "stacktrace" in job else None,
        job.get("previousState"),
    )


def _entry_with(entry: Entry, step: Step) -> Entry:
    """Return `entry` with the fields of a further event that reports it."""
    job = step.job
    completed = entry.completed
    if completed is None and "completedAt" in job:
        completed = to_instant(job["completedAt"])
    return replace(
        entry,
        is_redelivered=entry.is_redelivered or step.is_redelivered,
        created=entry.created if step.created is None else step.created,
        completed=completed,
        error=job.get("error", entry.error),
        location=location_of(job["stacktrace"]) if "stacktrace" in job else entry.location,
        reported_previous=job.get("previousState"),
    )


def _run_with(run: Run, step: Step) -> Run:
    """Return `run` with the fields of `step`."""
    ready, progress, reporter = run.ready, run.progress, run.reporter
    start = step.start if run.start is None else run.start
    started = step.started if run.started is None else run.started
    if step.state == "active":
        start = step.at if start is None else start
        started = step.timestamp if started is None else started
        if "progress" in step.job:
            progress, reporter = step.job["progress"], step.reporter
    elif ready is not None and step.eta is not None and step.is_waiting:
        ready = max(ready, step.eta)
    worker = intern(step.job["workerId"]) if "workerId" in step.job else run.worker
    return Run(run.queued, ready, start, started, progress, reporter, worker)


def _new_run(history: History, step: Step) -> Run:
    """Return the run that `step` begins. A wait goes on until a run is known to have started."""
    entry, run = history.entry, history.run
    if not step.is_waiting:
        is_still_waiting = run.started is None and entry.state not in ENDED
        return Run(None, run.ready if is_still_waiting else None, None, None, None, None, None)
    if entry.state in WAITING:
        return Run(None, run.ready, None, None, None, None, None)
    return Run(step.timestamp, step.timestamp, None, None, None, None, None)


def _preceded_by(history: History, step: Step) -> History:
    """Return `history` with the dispatch that it lacks before its first state."""
    at = history.first_at if step.created is None else min(step.created, history.first_at)
    run = history.run
    if history.runs == 1:
        run = replace(run, queued=at, ready=at if step.eta is None else max(at, step.eta))
    return replace(history, first_waits=True, first_at=at, previous=history.previous or step.state, run=run)


def _is_new_run(history: History, step: Step) -> bool:
    """Return whether `step`, of the same attempt, belongs to another execution than the last state."""
    entry, run = history.entry, history.run
    if step.start is None:
        return False
    if entry.state in ("active", "unknown"):
        return step.state == "active" and step.is_redelivered and (run.start is None or step.start > run.start)
    if entry.state not in (*ENDED, "retrying") or step.is_waiting:
        return False
    if entry.is_redelivered and not step.is_redelivered and step.created is not None and step.created == entry.created:
        return False  # an event of the run before, from a worker whose clock is ahead
    # Where a clock is set back, a run may end before its start: the same start is the same run.
    return step.start > entry.at and step.start != run.start


def _may_follow(history: History, step: Step, attempt: int) -> bool:
    last = history.entry
    if attempt != last.attempt:
        is_later_attempt = attempt > last.attempt or (step.is_waiting and step.is_redelivered)
        # The next attempt is published before the one that asked for it is reported as retrying.
        return is_later_attempt or (step.state == "retrying" and last.state in WAITING)
    if step.is_waiting:
        return _may_wait_after(last, step)
    if _is_new_run(history, step):
        return True
    if step.state == "active" and last.state == "retrying":
        return not step.is_progress
    if last.state in ENDED:
        return step.state in ENDED or (step.state == "retrying" and last.state == "failed")
    return True


def _may_wait_after(last: Entry, step: Step) -> bool:
    """Return whether `step`, which reports a waiting state of the same attempt, may follow."""
    if step.is_redelivered or last.state in (*WAITING, "retrying", "unknown"):
        return True
    return last.state in ENDED and _is_dispatch(step) and step.at > last.at


def _is_dispatch(step: Step) -> bool:
    """Return whether `step` reports the job's first message: before all runs, even if its producer's clock is ahead."""
    if not step.is_waiting or step.is_redelivered or step.job.get("attempt", 1) > 1:
        return False
    return step.created == step.at


def _was_dispatched_before(history: History, step: Step) -> bool:
    """Return whether `step` is the dispatch that the history lacks: its producer reported it after the worker's first
    event."""
    is_missing = step.is_waiting and not history.first_waits
    return is_missing and step.created is not None and step.created <= history.first_at
