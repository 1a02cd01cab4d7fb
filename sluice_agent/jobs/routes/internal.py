"""``/api/internal/runs``: how workers start attempts, report that they are alive, and finish them.

`jobs/worker/server.py` is the client, and describes the requests. They are no part of the API: other programs have no
tickets. Errors are those of the server's own API. Each run takes two requests, so these are plain routes: what the
framework does for others takes longer than the change of the run.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from fastapi import Request, Response
from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from sluice_agent.jobs.execution.attempts import AttemptChanges
from sluice_agent.jobs.execution.requests import BeatRequest, FinishRequest, StartRequest
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.store.schema import can_be_claimed, run
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.jobs.store.takers import abandoned_queue
from sluice_agent.server.access.gate import Gate
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.request_body import read_body

_Model = TypeVar("_Model", bound=BaseModel)

PATH = "/api/internal/runs"

_LONGEST_ID = 64
_LARGE = 65_536  # bytes of a body that takes long to parse
_READY = select(run.c.id).where(can_be_claimed).limit(1)


def internal_routes(store: JobsStore, attempts: AttemptChanges, gate: Gate) -> list[Route]:
    """Return the routes of workers that `gate` admits. `attempts` makes their changes in `store`."""

    async def read(request: Request, model: type[_Model]) -> _Model:
        await _admit(gate, request)
        body = await read_body(request)
        return await run_in_threadpool(_parse, model, body) if len(body) > _LARGE else _parse(model, body)

    async def beat(request: Request) -> Response:
        executions = (await read(request, BeatRequest)).executions
        return answer({"canceled": await asyncio.wrap_future(attempts.beat(executions))})

    async def queue(request: Request) -> Response:
        await _admit(gate, request)
        name = await run_in_threadpool(_queue_without_workers, store)
        return answer({} if name is None else {"without_workers": name})

    async def start(request: Request) -> Response:
        run_id = _run_in(request)
        wanted = await read(request, StartRequest)
        spec = await asyncio.wrap_future(attempts.start(run_id, wanted))
        if spec is None:
            raise RefusedError(409, "The attempt is not to be started: drop its message.")
        return Response(spec.model_dump_json(), media_type="application/json")

    async def finish(request: Request) -> Response:
        run_id = _run_in(request)
        report = await read(request, FinishRequest)
        status = await asyncio.wrap_future(attempts.finish(run_id, report))
        if status is None:
            raise RefusedError(409, "The attempt has ended already: its report changes nothing.")
        return answer({"status": status})

    routes = (("/{run_id}/start", start), ("/{run_id}/finish", finish), ("/beat", beat))
    return [
        *(Route(f"{PATH}{path}", handle, methods=["POST"], include_in_schema=False) for path, handle in routes),
        Route(f"{PATH}/queue", queue, include_in_schema=False),
    ]


async def _admit(gate: Gate, request: Request) -> None:
    if gate.needs_key(request):
        await run_in_threadpool(gate.check_worker, request)


def _queue_without_workers(store: JobsStore) -> str | None:
    """Return the queue from which no worker takes messages, while runs wait for one."""
    with store.reading() as reader:
        return abandoned_queue(reader) if reader.execute(_READY).first() is not None else None


def _run_in(request: Request) -> str:
    run_id = str(request.path_params["run_id"])
    if len(run_id) > _LONGEST_ID or not run_id.isprintable():
        raise RefusedError(400, "The request is not valid.", {"run_id": "is not the id of a run"})
    return run_id


def _parse(model: type[_Model], body: bytes) -> _Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        details = {".".join(map(str, fault["loc"])) or "body": fault["msg"] for fault in error.errors()}
        raise RefusedError(400, "The request is not valid.", details) from None
