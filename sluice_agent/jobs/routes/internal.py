"""``/api/internal/runs``: how workers start attempts, report that they are alive, and finish them.

`jobs/worker/server.py` is the client, and describes the requests. They are no part of the API: other programs have no
tickets. Errors are those of the server's own API.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from sluice_agent.jobs.execution.beat import note_beat
from sluice_agent.jobs.execution.finish import finish_attempt
from sluice_agent.jobs.execution.requests import BeatRequest, FinishRequest, StartRequest
from sluice_agent.jobs.execution.start import start_attempt
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.routes.parameters import Id
from sluice_agent.jobs.store.grouped import GroupedChanges
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.access.gate import Gate
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.request_body import read_body

_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")

_LARGE = 65_536  # bytes of a body that takes long to parse


def internal_router(
    store: JobsStore, changes: GroupedChanges, gate: Gate, *, allows_private: bool, wake: Callable[[], None]
) -> APIRouter:
    """Return the routes of workers that `gate` admits. `changes` makes their changes in `store`.

    `wake` is called when a run goes back, or ends and so leaves its place to another. It must not block.
    `allows_private`: requests may go to private addresses.
    """
    router = APIRouter(prefix="/internal/runs", include_in_schema=False)

    async def read(request: Request, model: type[_Model]) -> _Model:
        await run_in_threadpool(gate.check_worker, request)
        body = await read_body(request)
        return await run_in_threadpool(_parse, model, body) if len(body) > _LARGE else _parse(model, body)

    async def made(change: Callable[[Connection], _Result]) -> _Result:
        return await asyncio.wrap_future(changes.submit(change))

    @router.post("/beat")
    async def beat(request: Request) -> Response:
        """Report executions as going on."""
        executions = (await read(request, BeatRequest)).executions
        return answer({"canceled": await made(lambda writer: note_beat(writer, executions, store.moment))})

    @router.post("/{run_id}/start")
    async def start(run_id: Id, request: Request) -> Response:
        """Start an attempt."""
        wanted = await read(request, StartRequest)
        spec = await made(
            lambda writer: start_attempt(
                writer, run_id, wanted, store.moment, store.token_secret, allows_private=allows_private
            )
        )
        if spec is None:
            wake()
            raise RefusedError(409, "The attempt is not to be started: drop its message.")
        return Response(spec.model_dump_json(), media_type="application/json")

    @router.post("/{run_id}/finish")
    async def finish(run_id: Id, request: Request) -> Response:
        """Take the report of an attempt."""
        report = await read(request, FinishRequest)
        status = await made(lambda writer: finish_attempt(writer, run_id, report, store.moment, random.random))
        if status is None:
            raise RefusedError(409, "The attempt has ended already: its report changes nothing.")
        wake()
        return answer({"status": status})

    return router


def _parse(model: type[_Model], body: bytes) -> _Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        details = {".".join(map(str, fault["loc"])) or "body": fault["msg"] for fault in error.errors()}
        raise RefusedError(400, "The request is not valid.", details) from None
