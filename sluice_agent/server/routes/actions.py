"""Retry and revoke: of one job, of several by their ids as the vendor has it, and of all that a filter selects.

All of it needs an operator. With ``dryRun=true`` nothing is sent, and the answer shows what would be.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from sluice_agent.server.access.principal import Principal, require_operator
from sluice_agent.server.actions.assembly import Acting
from sluice_agent.server.actions.ledger import Kind
from sluice_agent.server.actions.request import ActionRequest, cancel_action, find_action
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.routes.action_answers import (
    act_on,
    act_on_one,
    preview_filter,
    preview_one,
    preview_several,
    progress_of,
)
from sluice_agent.server.routes.action_responses import (
    BulkActionAnswer,
    BulkPreview,
    Results,
    RetryAnswer,
    RetryPreview,
    RevokeAnswer,
    RevokePreview,
)
from sluice_agent.server.routes.documented import ACTING, READING, Responses, errors
from sluice_agent.server.routes.parameters import Viewer, job_in_path

_MOST_IDS = 100

Operator = Annotated[Principal, Depends(require_operator)]
JobInPath = Annotated[str, Depends(job_in_path)]
DryRun = Annotated[bool, Query(alias="dryRun", description="Send nothing, and show what would be sent.")]
Again = Annotated[bool, Query(description="Retry jobs even if their last retry has not ended.")]
Id = Annotated[str, Field(min_length=1, max_length=512)]

_SINGLE: dict[Kind, Any] = {Kind.RETRY: RetryAnswer | RetryPreview, Kind.REVOKE: RevokeAnswer | RevokePreview}


class BulkRequest(BaseModel):
    """The jobs of a bulk action: by their ids, or by a filter."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[Id] | None, Field(min_length=1, max_length=_MOST_IDS)] = None
    filter: JobFilter | None = None


class OperatorFirst(APIRoute):
    """A route that reads no body before it is known that an operator sends it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of the framework, which reads the body first, behind that check."""
        handle = super().get_route_handler()

        async def handle_operator(request: Request) -> Response:
            if request.method == "POST":
                await run_in_threadpool(require_operator, request)
            return await handle(request)

        return handle_operator


def actions_router(acting: Acting) -> APIRouter:
    """Return the routes that act on jobs."""
    router = APIRouter(tags=["actions"], route_class=OperatorFirst)
    bulk: Responses = {200: {"model": Results | BulkPreview}, 202: {"model": BulkActionAnswer}}
    for kind in Kind:  # before those of single jobs, whose ids may be any text
        path = f"/jobs/bulk/{kind.value}"
        router.post(path, name=f"{kind.value} jobs", responses=ACTING | bulk)(_bulk(acting, kind))
    for kind in Kind:
        path = f"/jobs/{{job:path}}/{kind.value}"
        single: Responses = {200: {"model": _SINGLE[kind]}}
        router.post(path, name=f"{kind.value} a job", responses=ACTING | single)(_single(acting, kind))
    _add_bulk_actions(router, acting)
    return router


def _bulk(acting: Acting, kind: Kind) -> Callable[..., JSONResponse]:
    def act(body: BulkRequest, principal: Operator, dry_run: DryRun = False, again: Again = False) -> JSONResponse:
        """Act on up to a hundred jobs, or begin to act on all that a filter selects."""
        request = ActionRequest(acting, principal, kind, again=again)
        if body.ids is not None and body.filter is None:
            return _answer((preview_several if dry_run else act_on)(request, kind, body.ids))
        if body.filter is not None and body.ids is None:
            if dry_run:
                return _answer(preview_filter(request, kind, body.filter))
            return _answer(progress_of(acting.ledger, request.begin(body.filter)), 202)
        raise RefusedError(400, 'The body must be {"ids": [ … ]} or {"filter": { … }}.')

    return act


def _single(acting: Acting, kind: Kind) -> Callable[..., JSONResponse]:
    def act(job: JobInPath, principal: Operator, dry_run: DryRun = False, again: Again = False) -> JSONResponse:
        """Act on the job with this id: Sluice's, or Celery's."""
        request = ActionRequest(acting, principal, kind, again=again)
        return _answer((preview_one if dry_run else act_on_one)(request, kind, job))

    return act


def _add_bulk_actions(router: APIRouter, acting: Acting) -> None:
    answer: Responses = {200: {"model": BulkActionAnswer}}

    @router.get("/bulk-actions/{action}", responses=READING | errors(404) | answer)
    def bulk_action(action: str, principal: Viewer) -> JSONResponse:
        """Return a bulk action with its progress."""
        find_action(acting, action, principal)
        return _answer(progress_of(acting.ledger, action))

    @router.post("/bulk-actions/{action}/cancel", responses=ACTING | answer)
    def cancel(action: str, principal: Operator) -> JSONResponse:
        """End a bulk action. What has been sent stays sent."""
        cancel_action(acting, find_action(acting, action, principal), principal)
        return _answer(progress_of(acting.ledger, action))


def _answer(body: BaseModel, status: int = 200) -> JSONResponse:
    return JSONResponse(body.model_dump(mode="json", by_alias=True), status)
