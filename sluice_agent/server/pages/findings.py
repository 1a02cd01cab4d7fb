"""What is wrong, in sentences, the worst first: pure functions of what queries have read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

from sluice_agent.server.pages.formats import counted, duration, number, share
from sluice_agent.server.pages.plots import spark_bars
from sluice_agent.server.queries.job_problem import JobProblem
from sluice_agent.server.queries.tasks import Ends
from sluice_agent.server.queries.workers import SilentWorker

FAILING_SHARE = 0.01
"""A task is failing if so many of its jobs failed in the last hour."""

BADLY_FAILING_SHARE = 0.1

LONG_WAIT = 5 * 60_000_000
"""Microseconds after which a queue's oldest job waits for long."""

GROWTH_WITHIN = 15 * 60_000_000
"""The microseconds in which the growth of a queue is looked at."""

SILENCE = 5 * 60_000_000
"""Microseconds since the moment of the last event after which that is a finding."""

_GROWTH = 1.5  # times the depth before
_LEAST_GROWTH = 10  # jobs
_USED = 0.8  # of the daily limit
_NAMED = 3  # workers in one sentence
_OF_A_KIND = 4  # findings
_OFTEN = 3  # failures of a task in an hour that are a finding of their own
_CHANGE = 1.5  # times the share of failures before, if it rises

_COUNTED = {
    JobProblem.SLOW: ("job runs", "jobs run", "for much longer than others of the same task."),
    JobProblem.LOST: ("job is active", "jobs are active", "on a worker that is gone, or was started again since."),
    JobProblem.EXPIRED: ("job is queued", "jobs are queued", "and should have started before a time that has passed."),
    JobProblem.OVERDUE: ("job has", "jobs have", "an ETA in the past."),
}


class Severity(IntEnum):
    """How much it matters."""

    BAD = 0
    WARNING = 1


class Link(NamedTuple):
    """Where the jobs are that a finding is about: a path and its parameters."""

    path: str
    parameters: Mapping[str, str]


class Finding(NamedTuple):
    """Something wrong: `subject`, which links to it, and the rest of the sentence. `ends` are those of the last
    hour, for a failing task."""

    key: str
    severity: Severity
    subject: str
    text: str
    link: Link
    ends: Ends | None = None

    @property
    def spark(self) -> tuple[str, ...] | None:
        """The paths of small bars: of the jobs that failed, and of those that completed."""
        return self.ends and spark_bars((self.ends.failed, self.ends.completed))


class QueueState(NamedTuple):
    """A queue now. `depth_before` is its depth before `GROWTH_WITHIN`; `oldest_wait` is in microseconds."""

    name: str
    depth: int | None
    depth_before: int | None
    oldest_wait: int | None


class Limits(NamedTuple):
    """What bounds the server: events of the connection today and the most it may send; how far back jobs reach, in
    microseconds, if they are deleted for the size of the database."""

    events: int
    daily_limit: int | None
    kept_for: int | None


def sorted_findings(*findings: Iterable[Finding]) -> list[Finding]:
    """Return all findings, the worst first."""
    return sorted(chain.from_iterable(findings), key=lambda finding: finding.severity)


def of_tasks(ends: Mapping[str, Ends]) -> Iterator[Finding]:
    """Yield a finding for each failing task, the one with the largest share first, and one for all others."""
    failing = {name: of_task for name, of_task in ends.items() if _failing_share(of_task) >= FAILING_SHARE}
    names = sorted(failing, key=lambda name: (-_failing_share(failing[name]), -sum(failing[name].failed), name))
    often = [name for name in names if sum(failing[name].failed) >= _OFTEN][:_OF_A_KIND]
    yield from (_of_task(name, failing[name]) for name in often)
    others = [name for name in names if name not in often]
    failures = sum(sum(failing[name].failed) for name in others)
    if failures:
        tasks = counted(len(others), "more task" if often else "task")
        subject = f"And {tasks}" if often else tasks
        text = f"failed in the last hour: {counted(failures, 'job')}."
        yield Finding("failing", Severity.WARNING, subject, text, Link("/tasks", {"sortBy": "failures"}))


def of_problems(counts: Mapping[JobProblem, tuple[int, bool]]) -> Iterator[Finding]:
    """Yield a finding for each problem that jobs have: their number, and whether it is exact."""
    for problem, (jobs, is_exact) in counts.items():
        if jobs:
            singular, plural, text = _COUNTED[problem]
            count = f"{number(jobs)}{'' if is_exact else '+'}"
            link = Link("/jobs", {"problem": problem.value})
            yield Finding(problem.value, Severity.BAD, f"{count} {singular if jobs == 1 else plural}", text, link)


def of_workers(silent: Sequence[SilentWorker], now: int) -> Iterator[Finding]:
    """Yield a finding about the workers that are gone."""
    if not silent:
        return
    active = sum(worker.active_jobs for worker in silent)
    ran = f"; {number(active)} {'job was' if active == 1 else 'jobs were'} active then" if active else ""
    since = duration((now - silent[0].silent_since) // 1_000)
    if len(silent) == 1:
        link = Link("/worker", {"id": silent[0].external_id})
        text = f"stopped reporting {since} ago without ending{ran}."
        yield Finding("workers", Severity.BAD, silent[0].external_id, text, link)
        return
    names = ", ".join(worker.external_id for worker in silent[:_NAMED])
    others = f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else ""
    text = f"stopped reporting without ending, the last one {since} ago{ran}: {names}{others}."
    yield Finding("workers", Severity.BAD, f"{len(silent)} workers", text, Link("/workers", {"state": "offline"}))


def of_queues(queues: Iterable[QueueState]) -> Iterator[Finding]:
    """Yield a finding for each queue whose oldest job waits for long, or that grows, and one for all beyond a few."""
    wrong = [(queue, text) for queue in queues if (text := _queue_text(queue))]
    wrong.sort(key=lambda pair: pair[0].oldest_wait or 0, reverse=True)
    for queue, text in wrong[:_OF_A_KIND]:
        is_bad = bool(_growth(queue)) and _is_late(queue)
        severity = Severity.BAD if is_bad else Severity.WARNING
        link = Link("/queue", {"name": queue.name})
        yield Finding(f"queue {queue.name}", severity, f"Queue {queue.name}:", f"{text}.", link)
    others = len(wrong) - _OF_A_KIND
    if others > 0:
        subject = f"{number(others)} more {'queue' if others == 1 else 'queues'}"
        text = f"{'grows, or has' if others == 1 else 'grow, or have'} a job that waits for long."
        yield Finding("queues", Severity.WARNING, subject, text, Link("/queues", {"sortBy": "wait"}))


def of_server(limits: Limits, last_event: int | None, now: int) -> Iterator[Finding]:
    """Yield what is wrong with the server, and with what reaches it."""
    if last_event is not None and now - last_event >= SILENCE:
        text = f"is {duration((now - last_event) // 1_000)} old. sluice-agent doctor, beside a worker, shows why."
        yield Finding("silence", Severity.BAD, "The last event", text, Link("/connections", {}))
    if limits.daily_limit is not None and limits.events >= _USED * limits.daily_limit:
        is_used_up = limits.events >= limits.daily_limit
        rest = "Further ones are refused until midnight UTC." if is_used_up else "Beyond it events are refused."
        text = f"of {number(limits.daily_limit)} are used: {number(limits.events)}. {rest}"
        severity = Severity.BAD if is_used_up else Severity.WARNING
        yield Finding("limit", severity, "Today's events", text, Link("/settings", {}))
    if limits.kept_for is not None and limits.kept_for < 86_400_000_000:
        text = (
            f"of {duration(limits.kept_for // 1_000)} fill the database. "
            "sluice-agent serve --max-size gives it more room."
        )
        yield Finding("kept", Severity.WARNING, "The jobs", text, Link("/settings", {}))


def _failing_share(ends: Ends) -> float:
    failed = sum(ends.failed)
    return failed / (failed + sum(ends.completed)) if failed else 0.0


def _of_task(name: str, ends: Ends) -> Finding:
    failed, share_failed = sum(ends.failed), _failing_share(ends)
    of_all = f"{number(failed)} of {number(failed + sum(ends.completed))} jobs"
    text = f"failed in the last hour: {of_all} ({share(share_failed)}){_direction(ends)}."
    severity = Severity.BAD if share_failed >= BADLY_FAILING_SHARE else Severity.WARNING
    link = Link("/jobs", {"state": "failed", "name": name, "sortBy": "completedAt"})
    return Finding(f"failing {name}", severity, name, text, link, ends)


def _direction(ends: Ends) -> str:
    """Return whether the share of failures rises, by the two halves of the hour; nothing if one had no jobs."""
    half = len(ends.failed) // 2
    before = _failing_share_or_none(Ends(ends.completed[:half], ends.failed[:half]))
    after = _failing_share_or_none(Ends(ends.completed[half:], ends.failed[half:]))
    if before is None or after is None:
        return ""
    if after > _CHANGE * before:
        return ", rising"
    return ", falling" if before > _CHANGE * after else ", steady"


def _failing_share_or_none(ends: Ends) -> float | None:
    return _failing_share(ends) if any(ends.completed) or any(ends.failed) else None


def _is_late(queue: QueueState) -> bool:
    return queue.oldest_wait is not None and queue.oldest_wait >= LONG_WAIT


def _queue_text(queue: QueueState) -> str | None:
    """Return what is wrong with a queue; None if nothing is."""
    late = f"the oldest job waits for {duration((queue.oldest_wait or 0) // 1_000)}" if _is_late(queue) else None
    return ", and ".join(filter(None, (late, _growth(queue)))) or None


def _growth(queue: QueueState) -> str | None:
    before, depth = queue.depth_before, queue.depth
    if before is None or depth is None or depth < before + _LEAST_GROWTH or depth < _GROWTH * before:
        return None
    return f"it grew from {number(before)} to {number(depth)} in {duration(GROWTH_WITHIN // 1_000)}"
