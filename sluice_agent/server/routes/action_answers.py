"""The answers of the routes that act, made from what was done."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from pydantic import BaseModel

from sluice_agent.server.actions.acting import SentRetry
from sluice_agent.server.actions.ledger import Kind, Ledger
from sluice_agent.server.actions.request import ActionRequest, Preview
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.record.ids import job_id
from sluice_agent.server.routes.action_responses import (
    BulkActionAnswer,
    BulkPreview,
    Failed,
    Results,
    RetriedAs,
    RetryAnswer,
    RetryPreview,
    RevokeAnswer,
    RevokePreview,
    Succeeded,
)

_SHOWN = 20  # jobs that the dry run of a filter shows
_ASKED = "Workers were asked not to run the job: it is cancelled when one of them drops it. A job that runs goes on."


def act_on_one(request: ActionRequest, kind: Kind, text: str) -> BaseModel:
    """Act on the job with this id, Sluice's or Celery's."""
    if kind is Kind.RETRY:
        return _retry_answer(request.retry_one(text))
    return RevokeAnswer(id=request.revoke_one(text).job.record["id"], message=_ASKED)


def act_on(request: ActionRequest, kind: Kind, ids: Sequence[str]) -> BaseModel:
    """Act on several jobs; each has its own result."""
    state = "retrying" if kind is Kind.RETRY else "cancelled"
    return Results(
        results=[
            Succeeded(id=text, state=state) if outcome is None else Failed(id=text, error=outcome.message)
            for text, outcome in zip(ids, request.act_on(ids), strict=True)
        ]
    )


def preview_one(request: ActionRequest, kind: Kind, text: str) -> BaseModel:
    """Show what would be done with a job."""
    return _preview_answer(kind, request.preview(text))


def preview_several(request: ActionRequest, kind: Kind, ids: Sequence[str]) -> BaseModel:
    """Show what would be done with several jobs."""
    return BulkPreview(total=len(ids), jobs=[_preview_or_failure(request, kind, text) for text in ids])


def preview_filter(request: ActionRequest, kind: Kind, wanted: JobFilter) -> BaseModel:
    """Show what would be done with the first jobs that a filter selects."""
    uuids = request.matching(wanted)
    shown = [_preview_or_failure(request, kind, str(UUID(bytes=uuid))) for uuid in uuids[:_SHOWN]]
    return BulkPreview(total=len(uuids), jobs=shown)


def progress_of(ledger: Ledger, action: str) -> BulkActionAnswer:
    """Return a bulk action, which exists, with its progress."""
    return BulkActionAnswer.model_validate(ledger.progress(action))


def _retry_answer(sent: SentRetry) -> RetryAnswer:
    record = sent.prepared.subject.job.record
    return RetryAnswer(
        id=record["id"],
        message=" ".join([f"The job was sent again as {sent.task_id}.", *sent.prepared.retry.notes]),
        retried_as=RetriedAs(id=job_id(record["connectionId"], sent.task_id), external_id=sent.task_id),
    )


def _preview_or_failure(request: ActionRequest, kind: Kind, text: str) -> RetryPreview | RevokePreview | Failed:
    try:
        return _preview_answer(kind, request.preview(text))
    except RefusedError as refusal:
        return Failed(id=text, error=refusal.message)


def _preview_answer(kind: Kind, preview: Preview) -> RetryPreview | RevokePreview:
    job = preview.record["id"]
    if kind is Kind.REVOKE:
        return RevokePreview(id=job, name=preview.name, queue=preview.queue, state=preview.record["state"])
    return RetryPreview(
        id=job,
        name=preview.name,
        queue=str(preview.queue),
        args=preview.plain_args,
        kwargs=preview.plain_kwargs,
        notes=list(preview.notes),
    )
