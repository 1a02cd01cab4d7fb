"""The row of a job, made from its summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.record.summary import Summary
from sluice_agent.server.store.codes import FRAMEWORK_CODES, JOB_STATE_CODES
from sluice_agent.server.store.driver import JobRow
from sluice_agent.server.store.memory import Job, Memory
from sluice_agent.server.store.schema import LabelKind

Columns: TypeAlias = tuple[str, ...]
"""Names of columns of `job` that change together."""

_NOTHING: Columns = ()
_FOLD: Columns = ("fold",)
_STATE: Columns = (
    "state", "attempt", "changed_at", "started_at", "completed_at", "scheduled_for", "duration_ms", "fold",
)  # fmt: skip
_WORKER: Columns = (*_STATE, "worker")
_ERROR: Columns = (*_WORKER, "error", "error_class", "error_location")
_ALL: Columns = tuple(name for name in JobRow._fields if name not in {"number", "uuid", "connection", "external_id"})
_VALUES_OF_ALL = itemgetter(*map(JobRow._fields.index, ("number", *_ALL)))


def changed_columns(before: Summary, after: Summary, fold: bytes | None) -> Columns:
    """Return the columns in which the rows of two summaries of a job may differ, so that few indexes change. `fold` is
    that of `after`; without one there was none before either."""
    old, new = before.history.entry, after.history.entry
    has_same_facts = before.facts is after.facts
    if has_same_facts and old == new:
        return _NOTHING if fold is None else _FOLD
    is_same_job = has_same_facts or (
        before.created_at == after.created_at
        and before.facts.name == after.facts.name
        and before.facts.queue == after.facts.queue
        and before.facts.root_id == after.facts.root_id
        and before.facts.parent_id == after.facts.parent_id
        and before.facts.group_id == after.facts.group_id
        and before.facts.expires == after.facts.expires
        and before.facts.framework == after.facts.framework
    )
    if not is_same_job:
        return _ALL
    if old.error != new.error or old.location != new.location:
        return _ERROR
    return _STATE if has_same_facts or before.facts.worker == after.facts.worker else _WORKER


class JobLabels(NamedTuple):
    """The numbers of the labels that rows of jobs refer to."""

    names: dict[str, int]
    queues: dict[str, int]
    workers: dict[str, int]
    error_classes: dict[str, int]
    error_locations: dict[str, int]


def read_labels(memory: Memory, summaries: Sequence[Summary], names: set[str]) -> JobLabels:
    """Return the labels of `summaries` and of further names of tasks. Those that the database lacks are made."""
    facts = [summary.facts for summary in summaries]
    failed = [summary for summary in summaries if summary.history.entry.error or summary.history.entry.location]
    return JobLabels(
        memory.labels(LabelKind.NAME, names.union([fact.name for fact in facts])),
        memory.labels(LabelKind.QUEUE, {fact.queue for fact in facts if fact.queue is not None}),
        memory.labels(LabelKind.WORKER, {fact.worker for fact in facts if fact.worker is not None}),
        memory.labels(LabelKind.ERROR_CLASS, _texts(summary.error_class for summary in failed)),
        memory.labels(LabelKind.ERROR_LOCATION, _texts(summary.history.entry.location for summary in failed)),
    )


def _texts(texts: Iterable[str | None]) -> set[str]:
    return {text for text in texts if text is not None}


def changed_values(
    job: Job, summary: Summary, labels: JobLabels, columns: Columns, fold: bytes | None
) -> tuple[Any, ...]:
    """Return the number of `job`, and the values of `columns`, one of those that `changed_columns` returns."""
    if columns is _NOTHING:
        return (job.number,)
    if columns is _FOLD:
        return job.number, fold
    if columns is _ALL:
        values: tuple[Any, ...] = _VALUES_OF_ALL(job_row(job, summary, labels, fold))
        return values
    entry, facts = summary.history.entry, summary.facts
    values = (
        job.number,
        JOB_STATE_CODES[entry.state],
        entry.attempt,
        entry.at // 1_000,
        summary.started_at,
        summary.completed_at,
        summary.scheduled_for,
        summary.duration_ms,
        fold,
    )
    if columns is _STATE:
        return values
    values = *values, None if facts.worker is None else labels.workers[facts.worker]
    return values if columns is _WORKER else (*values, *_error_of(summary, labels))


def _error_of(summary: Summary, labels: JobLabels) -> tuple[str | None, int | None, int | None]:
    """Return the error, and the numbers of its class and its location."""
    error, location = summary.error, summary.history.entry.location
    error_class = summary.error_class if error else None
    return (
        error,
        None if error_class is None else labels.error_classes[error_class],
        None if location is None else labels.error_locations[location],
    )


def job_row(job: Job, summary: Summary, labels: JobLabels, fold: bytes | None) -> JobRow:
    """Return the row of `job`. `labels` has those of the summary."""
    facts, entry = summary.facts, summary.history.entry
    error, error_class, error_location = _error_of(summary, labels)
    return JobRow(
        job.number,
        job.uuid,
        job.connection,
        job.external_id,
        FRAMEWORK_CODES[facts.framework],
        labels.names[facts.name],
        None if facts.queue is None else labels.queues[facts.queue],
        None if facts.worker is None else labels.workers[facts.worker],
        error_class,
        JOB_STATE_CODES[entry.state],
        entry.attempt,
        summary.created_at,
        summary.changed_at,
        summary.started_at,
        summary.completed_at,
        summary.scheduled_for,
        summary.duration_ms,
        error,
        None if facts.root_id == job.external_id else facts.root_id,
        facts.group_id,
        fold,
        error_location,
        None if facts.parent_id is None else job_uuid(job.connection_id, facts.parent_id),
        summary.expires_at,
    )
