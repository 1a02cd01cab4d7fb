"""The history of a job's states: which transitions are legal, given that clocks and observers disagree.

Only an end that corrects a terminal state may follow it in the same run. Any other event after it begins a new run:
a higher attempt, a redelivery, an execution that is known to have started after the other one had ended, or a
replacement, whose attempts are counted from 1 again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sluice_agent.model import JobState
from sluice_agent.server.timestamps import instant

_WAITING = ("queued", "scheduled")
_ENDED = tuple(state.value for state in JobState if state.is_final)
_NATURAL_ORDER = ("queued", "scheduled", "active", "retrying", "unknown", *_ENDED)


@dataclass(frozen=True)
class Step:
    """One event of a job: the event and its job as on the wire, the instant at which it happened, and its text."""

    event: dict[str, Any]
    job: dict[str, Any]
    at: str
    body: str

    @classmethod
    def of(cls, body: str) -> Step:
        """Return the step in `body`, at the event's time, but not before the start that the event names."""
        event = json.loads(body)
        job = event["job"]
        at = instant(event["timestamp"])
        return cls(event, job, max(at, instant(job["startedAt"])) if "startedAt" in job else at, body)

    @property
    def state(self) -> str:
        """The unified state in the event."""
        return str(self.job["state"])

    @property
    def order(self) -> tuple[str, int, int, str]:
        """Sort key: instant; then attempt and natural order of states; then the text, for a stable order."""
        return self.at, self.job.get("attempt", 1), _NATURAL_ORDER.index(self.state), self.body

    @cached_property
    def is_progress(self) -> bool:
        """True if it reports progress. Such an event never begins a run whose start it does not name."""
        return self.state == "active" and "progress" in self.job

    @cached_property
    def is_redelivered(self) -> bool:
        """True if the broker has delivered the job again, or will do so."""
        extensions = self.job.get("extensions", {})
        return bool(extensions.get("redelivered") or extensions.get("requeued"))

    @cached_property
    def start_instant(self) -> str:
        """The instant at which the event's execution began; empty if that is not known."""
        if "startedAt" in self.job:
            return instant(self.job["startedAt"])
        return self.at if self.is_redelivered and self.state == "active" and not self.is_progress else ""


@dataclass(slots=True)
class Run:
    """One execution of one attempt."""

    start_instant: str = ""
    started_at: str | None = None
    progress: float | None = None


@dataclass(slots=True)
class Entry:
    """One state of the job, with every event that reports it: the first one began it, the others fill in its fields."""

    state: str
    timestamp: str
    at: str
    attempt: int
    run: Run
    steps: list[Step] = field(default_factory=list)

    @property
    def completed_at(self) -> str | None:
        """The timestamp of the run's end, if this state is its end."""
        if self.state not in _ENDED:
            return None
        return next((step.job["completedAt"] for step in self.steps if "completedAt" in step.job), self.timestamp)

    @property
    def is_redelivered(self) -> bool:
        """True if the broker had delivered the job before this run."""
        return any(step.is_redelivered for step in self.steps)

    def latest(self, name: str) -> Any:
        """Return the job's field `name` from the last event of this state that has it, or None."""
        return next((step.job[name] for step in reversed(self.steps) if name in step.job), None)

    def add(self, step: Step) -> None:
        """Add the fields of `step` to this state and to its run."""
        self.steps.append(step)
        run, job = self.run, step.job
        run.start_instant = run.start_instant or step.start_instant
        run.started_at = run.started_at or job.get("startedAt")
        if step.state == "active":
            run.start_instant = run.start_instant or step.at
            run.started_at = run.started_at or step.event["timestamp"]
            run.progress = job.get("progress", run.progress)


def history_of(steps: Iterable[Step]) -> tuple[list[Entry], list[Step]]:
    """Return the legal history in `steps`, which are sorted, and the steps that are excluded from it."""
    history: list[Entry] = []
    excluded: list[Step] = []
    for step in steps:
        last = history[-1] if history else None
        attempt = step.job.get("attempt") or _attempt_after(last, step)
        if last is None:
            history.append(_entry(step, attempt, Run()))
        elif _is_same_state(last, step, attempt):
            last.add(step)
        elif _is_dispatch(step) and history[0].state not in _WAITING:
            created = min(step.job["createdAt"], history[0].timestamp, key=instant)
            history.insert(0, _entry(step, attempt, Run(), created))
        elif _may_follow(last, step, attempt):
            same_run = attempt == last.attempt and step.state not in _WAITING and not _is_new_run(last, step)
            history.append(_entry(step, attempt, last.run if same_run else Run()))
        elif _was_dispatched_before(history[0], step):
            history.insert(0, _entry(step, attempt, Run(), step.job["createdAt"]))
        else:
            excluded.append(step)
    return history, excluded


def _attempt_after(last: Entry | None, step: Step) -> int:
    """Return the attempt of a step that does not name it: the last one, or after a retry the next, unless the step
    reports a waiting state, another retry or progress."""
    if last is None:
        return 1
    is_next = last.state == "retrying" and step.state not in (*_WAITING, "retrying") and not step.is_progress
    return last.attempt + is_next


def _entry(step: Step, attempt: int, run: Run, timestamp: str | None = None) -> Entry:
    timestamp = timestamp or step.event["timestamp"]
    entry = Entry(step.state, timestamp, instant(timestamp), attempt, run)
    entry.add(step)
    return entry


def _is_new_run(last: Entry, step: Step) -> bool:
    """Return whether `step`, of the same attempt, belongs to another execution than `last`."""
    if last.state in ("active", "unknown"):
        return step.state == "active" and step.is_redelivered and step.start_instant > last.run.start_instant
    if last.state not in (*_ENDED, "retrying") or step.state in _WAITING:
        return False
    if last.is_redelivered and not step.is_redelivered and step.job.get("createdAt", "") == last.latest("createdAt"):
        return False  # an event of the run before, from a worker whose clock is ahead
    # Where a clock is set back, a run may end before its start: the same start is the same run.
    return step.start_instant > last.at and step.start_instant != last.run.start_instant


def _is_same_state(last: Entry, step: Step, attempt: int) -> bool:
    return step.state == last.state and attempt == last.attempt and not _is_new_run(last, step)


def _may_follow(last: Entry, step: Step, attempt: int) -> bool:
    if attempt != last.attempt:
        is_later_attempt = attempt > last.attempt or (step.state in _WAITING and step.is_redelivered)
        # The next attempt is published before the one that asked for it is reported as retrying.
        return is_later_attempt or (step.state == "retrying" and last.state in _WAITING)
    if step.state in _WAITING:
        is_allowed = step.is_redelivered or last.state in (*_WAITING, "retrying", "unknown")
        return is_allowed or (last.state in _ENDED and _is_dispatch(step) and step.at > last.at)
    if _is_new_run(last, step):
        return True
    if step.state == "active" and last.state == "retrying":
        return not step.is_progress
    if last.state in _ENDED:
        return step.state in _ENDED or (step.state == "retrying" and last.state == "failed")
    return True


def _is_dispatch(step: Step) -> bool:
    """Return whether `step` reports the job's first message: before all runs, even if its producer's clock is ahead."""
    if step.state not in _WAITING or step.is_redelivered or step.job.get("attempt", 1) > 1:
        return False
    return "createdAt" in step.job and instant(step.job["createdAt"]) == step.at


def _was_dispatched_before(first: Entry, step: Step) -> bool:
    """Return whether `step` is the dispatch that the history lacks: its producer reported it after the worker's first
    event."""
    if step.state not in _WAITING or first.state in _WAITING or "createdAt" not in step.job:
        return False
    return instant(step.job["createdAt"]) <= first.at
