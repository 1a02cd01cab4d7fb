"""The walk of a job through its states: which of its transitions are legal, given that clocks and observers disagree.

Nothing follows a terminal state of the same run but a verdict that corrects it. What follows otherwise is a new run: a
higher attempt, a redelivery, an execution that is known to have started after the other one had ended, or another task
that replaces this one, of which attempts are counted from 1 again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sluice_agent.server.timestamps import instant

_WAITING = ("queued", "scheduled")
_ENDED = ("completed", "failed", "cancelled")
_NATURAL_ORDER = ("queued", "scheduled", "active", "retrying", "unknown", *_ENDED)


@dataclass(frozen=True)
class Step:
    """One event of a job: the event and its job as they are on the wire, when it happened, and the text it came as."""

    event: dict[str, Any]
    job: dict[str, Any]
    at: str
    body: str

    @classmethod
    def of(cls, body: str) -> Step:
        """The step that is told by `body`: at its time, but not before the start that it names."""
        event = json.loads(body)
        job = event["job"]
        at = instant(event["timestamp"])
        return cls(event, job, max(at, instant(job["startedAt"])) if "startedAt" in job else at, body)

    @property
    def state(self) -> str:
        """The unified state that the event tells."""
        return str(self.job["state"])

    @property
    def order(self) -> tuple[str, int, int, str]:
        """By time; of the same instant by attempt and by the natural order of states; then by something stable."""
        return self.at, self.job.get("attempt", 1), _NATURAL_ORDER.index(self.state), self.body

    @cached_property
    def is_progress(self) -> bool:
        """Whether it reports progress: such a report never begins a run of which it does not know the start."""
        return self.state == "active" and "progress" in self.job

    @cached_property
    def comes_back(self) -> bool:
        """Whether the broker has handed the job out, or will do so, once more."""
        extensions = self.job.get("extensions", {})
        return bool(extensions.get("redelivered") or extensions.get("requeued"))

    @cached_property
    def began(self) -> str:
        """The instant at which the execution that it tells of began; empty where that is not known."""
        if "startedAt" in self.job:
            return instant(self.job["startedAt"])
        return self.at if self.comes_back and self.state == "active" and not self.is_progress else ""


@dataclass(slots=True)
class Run:
    """One execution of one attempt."""

    began: str = ""
    started_at: str | None = None
    progress: float | None = None


@dataclass(slots=True)
class Entry:
    """One state that the job was in, with every event that told of it: the first made it so, others fill its gaps."""

    state: str
    timestamp: str
    at: str
    attempt: int
    run: Run
    steps: list[Step] = field(default_factory=list)

    @property
    def completed_at(self) -> str | None:
        """When the run ended, if this state is its end."""
        if self.state not in _ENDED:
            return None
        return next((step.job["completedAt"] for step in self.steps if "completedAt" in step.job), self.timestamp)

    @property
    def is_redelivered(self) -> bool:
        """Whether the broker had handed the job out before this run."""
        return any(step.comes_back for step in self.steps)

    def latest(self, name: str) -> Any:
        """The field `name` of the job as this state was last told, or None."""
        return next((step.job[name] for step in reversed(self.steps) if name in step.job), None)

    def take(self, step: Step) -> None:
        """Adds what `step` knows of this state and of its run."""
        self.steps.append(step)
        run, told = self.run, step.job
        run.began = run.began or step.began
        run.started_at = run.started_at or told.get("startedAt")
        if step.state == "active":
            run.began = run.began or step.at
            run.started_at = run.started_at or step.event["timestamp"]
            run.progress = told.get("progress", run.progress)


def history_of(steps: Iterable[Step]) -> tuple[list[Entry], list[Step]]:
    """The legal walk through `steps`, which are sorted, and the steps that are not part of it."""
    walk: list[Entry] = []
    aside: list[Step] = []
    for step in steps:
        last = walk[-1] if walk else None
        attempt = step.job.get("attempt") or _attempt_after(last, step)
        if last is None:
            walk.append(_entry(step, attempt, Run()))
        elif _repeats(last, step, attempt):
            last.take(step)
        elif _is_dispatch(step) and walk[0].state not in _WAITING:
            walk.insert(0, _entry(step, attempt, Run(), min(step.job["createdAt"], walk[0].timestamp, key=instant)))
        elif _follows(last, step, attempt):
            same_run = attempt == last.attempt and step.state not in _WAITING and not _begins_anew(last, step)
            walk.append(_entry(step, attempt, last.run if same_run else Run()))
        elif _was_dispatched_before(walk[0], step):
            walk.insert(0, _entry(step, attempt, Run(), step.job["createdAt"]))
        else:
            aside.append(step)
    return walk, aside


def _attempt_after(last: Entry | None, step: Step) -> int:
    """The attempt of a step that does not name it: the last one; after a retry the next, unless it waits or repeats."""
    if last is None:
        return 1
    is_next = last.state == "retrying" and step.state not in (*_WAITING, "retrying") and not step.is_progress
    return last.attempt + is_next


def _entry(step: Step, attempt: int, run: Run, timestamp: str | None = None) -> Entry:
    timestamp = timestamp or step.event["timestamp"]
    entry = Entry(step.state, timestamp, instant(timestamp), attempt, run)
    entry.take(step)
    return entry


def _begins_anew(last: Entry, step: Step) -> bool:
    """Whether `step`, of the same attempt, tells of another execution than the one that `last` belongs to."""
    if last.state in ("active", "unknown"):
        return step.state == "active" and step.comes_back and step.began > last.run.began
    if last.state not in (*_ENDED, "retrying") or step.state in _WAITING:
        return False
    if last.is_redelivered and not step.comes_back and step.job.get("createdAt", "") == last.latest("createdAt"):
        return False  # it is the run before, on a worker whose clock is ahead
    return step.began > last.at and step.began != last.run.began  # a clock that is set back ends a run before its start


def _repeats(last: Entry, step: Step, attempt: int) -> bool:
    return step.state == last.state and attempt == last.attempt and not _begins_anew(last, step)


def _follows(last: Entry, step: Step, attempt: int) -> bool:
    if attempt != last.attempt:
        begins = attempt > last.attempt or (step.state in _WAITING and step.comes_back)
        # The next attempt is published before the one that asked for it is reported as retrying.
        return begins or (step.state == "retrying" and last.state in _WAITING)
    if step.state in _WAITING:
        is_allowed = step.comes_back or last.state in (*_WAITING, "retrying", "unknown")
        return is_allowed or (last.state in _ENDED and _is_dispatch(step) and step.at > last.at)
    if _begins_anew(last, step):
        return True
    if step.state == "active" and last.state == "retrying":
        return not step.is_progress
    if last.state in _ENDED:
        return step.state in _ENDED or (step.state == "retrying" and last.state == "failed")
    return True


def _is_dispatch(step: Step) -> bool:
    """Whether `step` tells of the job's first message: before all runs, even where its producer's clock is ahead."""
    if step.state not in _WAITING or step.comes_back or step.job.get("attempt", 1) > 1:
        return False
    return "createdAt" in step.job and instant(step.job["createdAt"]) == step.at


def _was_dispatched_before(first: Entry, step: Step) -> bool:
    """Whether `step` is the dispatch that the walk lacks: its producer's word came after the worker's first."""
    if step.state not in _WAITING or first.state in _WAITING or "createdAt" not in step.job:
        return False
    return instant(step.job["createdAt"]) <= first.at
