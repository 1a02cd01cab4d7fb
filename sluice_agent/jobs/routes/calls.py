"""``/sdk/v1/runs/{id}``: the calls of an endpoint about the run that it works on, by the token of the attempt.

It is an application of its own: its clients have no key, and may do nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, Security
from fastapi.responses import JSONResponse
from sqlalchemy import Connection, Row

from sluice_agent.jobs.definitions.jobs import Change
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.routes.body import JsonRoute
from sluice_agent.jobs.routes.documented import CalledBody, RunBody, responses
from sluice_agent.jobs.routes.errors import error_response, register_errors
from sluice_agent.jobs.routes.middleware import Conventions
from sluice_agent.jobs.routes.parameters import Id
from sluice_agent.jobs.runs import calls
from sluice_agent.jobs.runs.call_requests import (
    AnnotateCall,
    CompleteCall,
    ContinueCall,
    EmptyCall,
    FailCall,
    LogCall,
    ProgressCall,
)
from sluice_agent.jobs.runs.run_token import AttemptOfToken, read_token
from sluice_agent.jobs.runs.views import run_view
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.grouped import GroupedChanges
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.access.principal import BEARER
from sluice_agent.server.database_errors import register_database_errors
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.own_errors import OwnErrorsApp

_STATE = "sluice_agent_attempt"
_AUTHOR = "endpoint"


class TokenFirst(JsonRoute):
    """A route for those who have the token of an attempt."""

    @staticmethod
    def identify(request: Request) -> None:
        """Find the attempt that a request is about. Raises `RefusedError`: 401 without a valid token, 403 for another
        run."""
        store: JobsStore = request.app.state.store
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = given.strip() if scheme.lower() == "bearer" else request.headers.get("x-run-token", "")
        of = read_token(store.token_secret, token, store.moment)
        if of is None:
            message = "This needs the token of a run, as X-Run-Token of its request: send it as Authorization: Bearer."
            raise RefusedError(401, message)
        if of.run_id != request.path_params["run_id"]:
            raise RefusedError(403, "The token is of another run.")
        setattr(request.state, _STATE, of)


def attempt_of(request: Request, _bearer: Annotated[Any, Security(BEARER)] = None) -> AttemptOfToken:
    """Return the attempt that the token of `request` is of. A dependency of routes."""
    of: AttemptOfToken = getattr(request.state, _STATE)
    return of


Attempt = Annotated[AttemptOfToken, Depends(attempt_of)]


class CallsApp(OwnErrorsApp):
    """The calls of endpoints about runs in `store`. It describes itself at ``/sdk/v1/openapi.json``."""

    def __init__(self, store: JobsStore, changes: GroupedChanges) -> None:
        super().__init__(
            title="sluice-agent serve: calls of an endpoint about its run",
            version=version("sluice-agent"),
            docs_url=None,
            redoc_url=None,
            redirect_slashes=False,
        )
        self.state.store = store
        self.add_middleware(Conventions)
        register_errors(self)
        register_database_errors(self, _unavailable)
        self.include_router(_router(store, changes))


_DESCRIBED = responses(200, CalledBody, 404, 409, has_body=True)
_NO_EMPTY, _NO_COMPLETE, _NO_CONTINUE = EmptyCall(), CompleteCall(), ContinueCall()  # of requests without a body
_Act = Callable[[Connection, Row[Any]], Row[Any]]
_Make = Callable[..., Response]


def _router(store: JobsStore, changes: GroupedChanges) -> APIRouter:
    router = APIRouter(prefix="/runs/{run_id}", tags=["calls"], route_class=TokenFirst)

    def made(of: AttemptOfToken, act: _Act, *ended: Status) -> Response:
        """Answer with the run after `act`. Changes of several calls are one transaction."""

        def changed(writer: Connection) -> Row[Any] | RefusedError:
            try:
                return act(writer, calls.find_run_of(writer, of, *ended))
            except RefusedError as refusal:  # it has changed nothing, and is no fault of the others
                return refusal

        row = changes.submit(changed).result()
        if isinstance(row, RefusedError):
            raise row
        return answer({"id": row.id, "status": row.status, "attempt": row.attempt})

    _add_reports(router, store, made)
    _add_ends(router, store, made)
    return router


def _add_reports(router: APIRouter, store: JobsStore, made: _Make) -> None:
    @router.post("/heartbeat", responses=_DESCRIBED)
    def beat(run_id: Id, of: Attempt, body: EmptyCall = _NO_EMPTY) -> Response:  # noqa: ARG001 - it is checked
        """Report that the endpoint works on the run: for a minute it is not taken for lost, even without its worker."""
        return made(of, lambda writer, row: calls.beat(writer, row, store.moment))

    @router.post("/progress", responses=_DESCRIBED)
    def report_progress(run_id: Id, of: Attempt, body: ProgressCall) -> Response:  # noqa: ARG001 - see above
        """Report how far the run is."""
        return made(of, lambda writer, row: calls.report_progress(writer, row, body, store.moment))

    @router.post("/log", responses=_DESCRIBED)
    def log(run_id: Id, of: Attempt, body: LogCall) -> Response:  # noqa: ARG001 - see above
        """Add a line to the log of the run."""
        return made(of, lambda writer, row: calls.add_line(writer, row, body, store.moment))

    @router.post("/annotate", responses=_DESCRIBED)
    def annotate(run_id: Id, of: Attempt, body: AnnotateCall) -> Response:  # noqa: ARG001 - see above
        """Add to the metadata of the run."""
        return made(of, lambda writer, row: calls.annotate(writer, row, body, store.moment))


def _add_ends(router: APIRouter, store: JobsStore, made: _Make) -> None:
    @router.post("/complete", responses=_DESCRIBED)
    def complete(run_id: Id, of: Attempt, body: CompleteCall = _NO_COMPLETE) -> Response:  # noqa: ARG001 - see above
        """End the run as completed, before the endpoint answers: the answer then changes nothing."""

        def end(writer: Connection, row: Row[Any]) -> Row[Any]:
            return calls.complete(writer, row, body.result_text, store.moment)

        return made(of, end, Status.COMPLETED)

    @router.post("/fail", responses=_DESCRIBED)
    def fail(run_id: Id, of: Attempt, body: FailCall) -> Response:  # noqa: ARG001 - see above
        """End the run as failed: no other attempt follows."""
        return made(of, lambda writer, row: calls.fail(writer, row, body.error, store.moment), Status.FAILED)

    both = responses(201, RunBody, 404, 409, has_body=True) | {200: {"model": RunBody}}

    @router.post("/continue", status_code=201, responses=both)
    def continue_run(run_id: Id, of: Attempt, body: ContinueCall = _NO_CONTINUE) -> Response:  # noqa: ARG001 - see above
        """Make a run of the same job that goes on with this one. A second call returns the same run."""
        with store.writing() as writer:
            row = calls.find_run_of(writer, of)
            author = Change(_AUTHOR, store.moment)
            made_run, is_new = calls.continue_run(writer, row, body.payload, author)
        return answer(run_view(made_run), 201 if is_new else 200)


def _unavailable(request: Request, message: str, headers: dict[str, str]) -> JSONResponse:
    return error_response(request.scope, 503, message, headers=headers)
