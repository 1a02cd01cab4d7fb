"""The end of an attempt: what its worker reports is taken once, and decides how the run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, update

from sluice_agent.jobs.attempts import answers
from sluice_agent.jobs.attempts.answers import ErrorClass
from sluice_agent.jobs.attempts.records import Outcome, Trace
from sluice_agent.jobs.attempts.retries import RetryStrategy, retry_delay
from sluice_agent.jobs.definitions.settings import JobSettings
from sluice_agent.jobs.execution.circuits import SeenAnswer, note_answers
from sluice_agent.jobs.execution.requests import FinishRequest
from sluice_agent.jobs.execution.start import settings_under_way
from sluice_agent.jobs.execution.turns import in_turns
from sluice_agent.jobs.runs.changes import LOST, Step, change_locked, state_of
from sluice_agent.jobs.runs.transitions import Ending, Finished, TransitionError, advance
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.id_lists import id_list
from sluice_agent.jobs.store.schema import attempt, run

_SECOND = 1_000_000  # microseconds
_MILLISECOND = 1_000
_ENDINGS = {
    answers.Ending.COMPLETED: Ending.SUCCESS,
    answers.Ending.DEAD_LETTER: Ending.FINAL,
    answers.Ending.TIMED_OUT: Ending.DEADLINE,
}


def finish_attempts(
    writer: Connection, reports: Sequence[tuple[str, FinishRequest]], now: int, chance: Callable[[], float]
) -> list[str | None]:
    """Take the reports of attempts of the runs with these ids, and return the status of each run after it. None: it has
    no effect any more.

    A report that comes again changes nothing. That of an attempt which was taken for lost counts while the next one has
    not started. `chance` returns a random number from 0 to 1.
    """
    return in_turns(reports, lambda of_runs: _Turn(writer, now, chance).take(of_runs))


class _Turn:
    """Reports of different runs, which change the database together."""

    def __init__(self, writer: Connection, now: int, chance: Callable[[], float]) -> None:
        self._writer = writer
        self._now = now
        self._chance = chance
        self._settings: dict[tuple[str, int], JobSettings | None] = {}
        self._steps: list[Step] = []
        self._ends: list[dict[str, Any]] = []
        self._answers: list[SeenAnswer] = []

    def take(self, reports: Mapping[str, FinishRequest]) -> dict[str, str]:
        """Take the reports, and return the status of each run on which one has had an effect."""
        rows = {row.id: row for row in self._writer.execute(_LOCKED, {"runs": id_list(reports)})}
        statuses = {run_id: self._judge(rows[run_id], report) for run_id, report in reports.items() if run_id in rows}
        if self._steps:
            change_locked(self._writer, self._steps, self._now)
            self._writer.execute(_END, self._ends)
            note_answers(self._writer, self._answers, self._now)
        return {run_id: status for run_id, status in statuses.items() if status is not None}

    def _judge(self, row: Row[Any], report: FinishRequest) -> str | None:
        """Return the status of a run after a report, which is to have its effect with those of others."""
        if row.execution != report.execution:
            return None
        latest = _latest(self._writer, row)
        settings = self._settings_of(row)
        if latest is None or settings is None or latest.attempt != report.attempt:
            return None
        outcome = report.outcome
        if latest.is_reported:
            _keep_trace(self._writer, row, latest, outcome)
            return None if row.status == Status.CANCELED.value else str(row.status)
        event = _event(outcome, settings, latest, self._now, self._chance)
        is_last = row.status == Status.EXECUTING.value and row.attempt >= settings.max_attempts
        also = _times(row, latest, outcome, ends=is_last or event.ending in (Ending.SUCCESS, Ending.FINAL))
        try:
            values = {**advance(state_of(row, settings.max_attempts), event, self._now), **also}
        except TransitionError:
            return None
        step = Step(row, event, values, has_webhook=bool(settings.webhook_url))
        self._steps.append(step)
        self._ends.append({"run": row.id, "number": latest.retries, **_end_of_attempt(row, outcome, self._now)})
        if not outcome.was_stopped:
            self._answers.append(SeenAnswer(row.project_id, settings.circuit, outcome.error_class))
        return step.status.value

    def _settings_of(self, row: Row[Any]) -> JobSettings | None:
        version = row.job_id, row.job_version
        if version not in self._settings:
            self._settings[version] = settings_under_way(self._writer, row)
        return self._settings[version]


@dataclass(frozen=True, slots=True)
class _Latest:
    """The attempt of a run that was started last."""

    attempt: int
    retries: int
    started_at: int
    is_reported: bool
    has_trace: bool


def _latest(reader: Connection, row: Row[Any]) -> _Latest | None:
    if row.status == Status.EXECUTING.value:
        return _Latest(row.attempt, row.retries, row.started_at, is_reported=False, has_trace=False)
    found = reader.execute(_LATEST, {"run": row.id}).one_or_none()
    if found is None:
        return None
    is_reported = found.finished_at is not None and found.error_class != LOST
    return _Latest(found.attempt, found.retries, found.started_at, is_reported, found.trace is not None)


def _keep_trace(writer: Connection, row: Row[Any], latest: _Latest, outcome: Outcome) -> None:
    """Keep the status and the times of a request that went on after the endpoint, or a user, had ended its run."""
    if latest.has_trace:
        return
    answered = {"status_code": outcome.status_code, "trace": _kept(row, outcome.trace)}
    writer.execute(_END, {"run": row.id, "number": latest.retries, **answered})
    if row.retries == latest.retries:
        writer.execute(_TIMES, {"run": row.id, **_times(row, latest, outcome, ends=True)})


def _event(outcome: Outcome, settings: JobSettings, latest: _Latest, now: int, chance: Callable[[], float]) -> Finished:
    decided = answers.ending(outcome.error_class, latest.attempt, settings.max_attempts, ends_run=outcome.ends_run)
    another = Ending.DEADLINE if outcome.error_class is ErrorClass.TIMEOUT else Ending.RETRYABLE
    strategy = RetryStrategy(settings.retry_strategy or RetryStrategy.EXPONENTIAL)
    delay = retry_delay(strategy, latest.attempt, settings.retry_delays_secs, outcome.retry_after_secs, chance)
    return Finished(
        latest.retries,
        _ENDINGS.get(decided, another),
        now + round(delay * _SECOND),
        outcome.result,
        outcome.error,
        _class_of(outcome),
    )


def _times(row: Row[Any], latest: _Latest, outcome: Outcome, *, ends: bool) -> dict[str, Any]:
    """Return what a run that ends keeps of its last attempt: its start, which a late report finds cleared, and times.

    Those before the start are of the run: `queue_wait_ms` goes on over retries.
    """
    if not ends:
        return {}
    start = latest.started_at
    trace = {
        "queue_wait_ms": _milliseconds(start - row.created_at),
        "dequeue_ms": 0 if row.started_at is None else _milliseconds(start - row.claimed_at),
        **outcome.trace.model_dump(exclude={"exchanges"}),
    }
    return {"started_at": start, "execution_trace": json.dumps(trace, separators=(",", ":"))}


def _end_of_attempt(row: Row[Any], outcome: Outcome, now: int) -> dict[str, Any]:
    return {
        "finished_at": now,
        "status_code": outcome.status_code,
        "error_class": _class_of(outcome),
        "error": outcome.error,
        "trace": _kept(row, outcome.trace),
    }


def _kept(row: Row[Any], trace: Trace) -> str:
    """Return the trace of an attempt as it is kept: with the heads, if the run is in `debug_mode`."""
    return (trace if row.debug_mode else trace.model_copy(update={"exchanges": ()})).to_json()


def _class_of(outcome: Outcome) -> str | None:
    return None if outcome.error_class is None else outcome.error_class.value


def _milliseconds(microseconds: int) -> int:
    return max(round(microseconds / _MILLISECOND), 1) if microseconds > 0 else 0


_LARGE = {run.c[name] for name in ("payload", "tags", "metadata", "result", "error", "execution_trace", "progress")}
"""What no report looks at."""

# Each attempt does these: to make such a statement takes longer than to execute it.
_LOCKED = (
    select(*(column for column in run.c if column not in _LARGE))
    .where(run.c.id.in_(bindparam("runs", expanding=True)))
    .order_by(run.c.id)
    .with_for_update()
)
_LATEST = select(attempt).where(attempt.c.run_id == bindparam("run")).order_by(attempt.c.retries.desc()).limit(1)
_TIMES = update(run).where(run.c.id == bindparam("run"))
_END = update(attempt).where(attempt.c.run_id == bindparam("run"), attempt.c.retries == bindparam("number"))
