"""The row of a job, made from its summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sluice_agent.server.record.summary import Summary
from sluice_agent.server.store.codes import FRAMEWORK_CODES, JOB_STATE_CODES
from sluice_agent.server.store.driver import JobRow, Label
from sluice_agent.server.store.memory import Job
from sluice_agent.server.store.schema import LabelKind

_FOLD = frozenset({"fold"})
_STATE = frozenset(
    {
        "worker", "error_class", "state", "attempt", "changed_at", "started_at", "completed_at", "scheduled_for",
        "duration_ms", "error", "fold",
    }
)  # fmt: skip
_ALL = frozenset(JobRow._fields) - {"number", "uuid", "connection", "external_id"}


def changed_columns(before: Summary, after: Summary) -> frozenset[str]:
    """Return the columns in which the rows of two summaries of a job may differ, so that few indexes change."""
    if before.facts is after.facts and before.history.entry == after.history.entry:
        return _FOLD
    is_same_job = (
        before.created_at == after.created_at
        and before.facts.name == after.facts.name
        and before.facts.queue == after.facts.queue
        and before.facts.root_id == after.facts.root_id
        and before.facts.group_id == after.facts.group_id
        and before.facts.framework == after.facts.framework
    )
    return _STATE if is_same_job else _ALL


def labels_of(summary: Summary) -> Iterator[Label]:
    """Yield the labels that the row of `summary` refers to."""
    facts, error_class = summary.facts, summary.error_class
    yield LabelKind.NAME, facts.name
    if facts.queue is not None:
        yield LabelKind.QUEUE, facts.queue
    if facts.worker is not None:
        yield LabelKind.WORKER, facts.worker
    if error_class is not None:
        yield LabelKind.ERROR_CLASS, error_class


def job_row(job: Job, summary: Summary, labels: Mapping[Label, int]) -> JobRow:
    """Return the row of `job`. `labels` has those of `labels_of`."""
    facts, error_class = summary.facts, summary.error_class
    return JobRow(
        job.number,
        job.uuid,
        job.connection,
        job.external_id,
        FRAMEWORK_CODES[facts.framework],
        labels[LabelKind.NAME, facts.name],
        None if facts.queue is None else labels[LabelKind.QUEUE, facts.queue],
        None if facts.worker is None else labels[LabelKind.WORKER, facts.worker],
        None if error_class is None else labels[LabelKind.ERROR_CLASS, error_class],
        JOB_STATE_CODES[summary.state],
        summary.attempt,
        summary.created_at,
        summary.changed_at,
        summary.started_at,
        summary.completed_at,
        summary.scheduled_for,
        summary.duration_ms,
        summary.error,
        None if facts.root_id == job.external_id else facts.root_id,
        facts.group_id,
        summary.to_bytes(),
    )
