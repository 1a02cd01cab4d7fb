"""``/v1/jobs/{id}/trigger``: a run of a job, or several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Body, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError, WithJsonSchema
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from sluice_agent.jobs.definitions.jobs import Change, Job, Lock, find_job
from sluice_agent.jobs.definitions.views import job_view, time_text
from sluice_agent.jobs.json_text import Raw
from sluice_agent.jobs.routes.access import Caller, Sender
from sluice_agent.jobs.routes.answers import answer
from sluice_agent.jobs.routes.body import KeyFirst
from sluice_agent.jobs.routes.documented import BulkBody, DryRunBody, TriggeredBody, responses
from sluice_agent.jobs.routes.endpoints import EndpointRules
from sluice_agent.jobs.routes.new_id import new_id_of
from sluice_agent.jobs.routes.parameters import Id
from sluice_agent.jobs.runs.admission import check_rate, find_duplicate, has_limits
from sluice_agent.jobs.runs.requests import MOST_ITEMS, BulkRequest, TriggerItem, TriggerRequest
from sluice_agent.jobs.runs.run_token import AttemptOfToken, run_token
from sluice_agent.jobs.runs.runs import check_enabled
from sluice_agent.jobs.runs.trigger import Triggered, Wanted, item_of_bulk, plan_of, trigger, trigger_all, want
from sluice_agent.jobs.runs.views import run_view
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.server.errors import RefusedError

_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")

_KEY_HEADERS = ("x-idempotency-key", "idempotency-key")
_LONGEST_KEY = 256  # bytes
_ATTEMPTS = 2  # of a transaction: the second finds the run that another one has just made under the same key

_ITEMS = {"type": "array", "items": TriggerItem.model_json_schema(), "minItems": 1, "maxItems": MOST_ITEMS}
_BULK = {"type": "object", "properties": {"items": _ITEMS}, "required": ["items"], "additionalProperties": False}

# Bodies are checked by the handlers, as a job that is unknown or disabled comes first.
TriggerJson = Annotated[Any, Body(), WithJsonSchema(TriggerRequest.model_json_schema())]
BulkJson = Annotated[Any, Body(), WithJsonSchema(_BULK)]


def triggers_router(store: JobsStore, rules: EndpointRules) -> APIRouter:
    """Return the routes that trigger runs. `rules` are those of their endpoints."""
    router = APIRouter(prefix="/jobs/{job_id}/trigger", tags=["triggers"], route_class=KeyFirst)
    single = responses(201, TriggeredBody, 404, 429, has_body=True) | {200: {"model": TriggeredBody | DryRunBody}}

    @router.post("", responses=single, openapi_extra={"parameters": _KEY_PARAMETERS})
    def trigger_job(job_id: Id, body: TriggerJson, request: Request, caller: Sender) -> Response:
        """Trigger a run. With the key of an earlier run, or its payload within the dedup window, that one is
        returned."""
        job = _job_to_run(store, rules, job_id, caller)
        wanted_run = _parse(TriggerRequest, body)
        now = store.moment
        key = _key_in(request) or wanted_run.idempotency_key
        run_id = new_id_of(request)
        wanted = replace(want(job, wanted_run, key, now), run_id=run_id)
        if wanted_run.dry_run:
            return answer(_dry_run(store, job, wanted, now))

        def make(writer: Connection, current: Job) -> Triggered:
            again = wanted if current == job else replace(want(current, wanted_run, key, now), run_id=run_id)
            return trigger(writer, current, again, Change(caller.name, store.moment))

        triggered = _make(store, job, caller, make)
        return answer(_triggered(store, triggered), 201 if triggered.is_new else 200)

    @router.post("/bulk", responses=responses(201, BulkBody, 404, 429, has_body=True))
    def trigger_jobs(job_id: Id, body: BulkJson, caller: Sender) -> Response:
        """Trigger several runs: all, or none if one of them can't be."""
        job = _job_to_run(store, rules, job_id, caller)
        items = _parse(BulkRequest, body).items
        now = store.moment
        wanted = _want_all(job, items, now)

        def make(writer: Connection, current: Job) -> tuple[str, list[Triggered]]:
            change = Change(caller.name, store.moment)
            return trigger_all(writer, current, wanted if current == job else _want_all(current, items, now), change)

        batch_id, triggered = _make(store, job, caller, make, bulk=True)
        results = [_result(store, made) for made in triggered]
        created = sum(made.is_new for made in triggered)
        return answer({"batch_id": batch_id, "results": results, "total": len(results), "created": created}, 201)

    return router


_KEY_PARAMETERS = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "description": "Identifies the run: a second trigger of the job with it returns the same run. For ever.",
        "schema": {"type": "string", "maxLength": _LONGEST_KEY},
    }
    for name in ("X-Idempotency-Key", "Idempotency-Key")
]


def _job_to_run(store: JobsStore, rules: EndpointRules, job_id: str, caller: Caller) -> Job:
    with store.reading() as reader:
        job = find_job(reader, job_id, caller.project)
    check_enabled(job)
    rules.check_task(job.settings)
    rules.check_environment(job.settings, job.project_id)
    return job


def _parse(model: type[_Model], body: Any) -> _Model:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError([{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]) from None


def _key_in(request: Request) -> str | None:
    """Return the idempotency key in the headers of `request`, None if there is none."""
    for name in _KEY_HEADERS:
        key = request.headers.get(name)
        if key:
            if len(key) > _LONGEST_KEY or not key.isprintable():
                reason = f"has more than {_LONGEST_KEY} bytes, or a character that can't be printed"
                raise RefusedError(400, "The request is not valid.", {name: reason})
            return key
    return None


def _want_all(job: Job, items: list[TriggerItem], now: int) -> list[Wanted]:
    wanted = []
    for index, item in enumerate(items):
        with item_of_bulk(index):
            wanted.append(want(job, item, item.idempotency_key, now))
    return wanted


def _make(
    store: JobsStore, job: Job, caller: Caller, make: Callable[[Connection, Job], _Result], *, bulk: bool = False
) -> _Result:
    """Return what `make` returns in a transaction in which the job's row is locked."""
    lock = Lock.EXCLUSIVE if has_limits(job) else Lock.SHARED
    for attempt in range(_ATTEMPTS):
        try:
            with store.writing(bulk=bulk) as writer:
                current = find_job(writer, job.id, caller.project, lock)
                check_enabled(current)
                return make(writer, current)
        except IntegrityError:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _dry_run(store: JobsStore, job: Job, wanted: Wanted, now: int) -> dict[str, Any]:
    """Return what would become of a trigger. A limit that is used up is a 400 here."""
    with store.reading() as reader:
        try:
            check_rate(reader, job, now)
        except RefusedError as refusal:
            raise RefusedError(400, refusal.message) from None
        duplicate = find_duplicate(reader, job, wanted.payload.hash, now)
    plan = plan_of(job, wanted, now)
    times = {"scheduled_at": plan.scheduled_at, "expires_at": plan.expires_at}
    warnings = [] if duplicate is None else [f"the run {duplicate.id} has the same payload, and would be returned"]
    return {
        "job": job_view(job),
        "payload_hash": wanted.payload.hash,
        "payload": Raw(wanted.payload.text),
        **{name: time_text(moment) for name, moment in times.items() if moment is not None},
        **({"validation_warnings": warnings} if warnings else {}),
    }


def _triggered(store: JobsStore, triggered: Triggered) -> dict[str, Any]:
    token = {"run_token": _token(store, triggered)} if triggered.is_new else {}
    return {
        **run_view(triggered.row),
        "payload_hash": triggered.row.payload_hash,
        **token,
        "idempotency_hit": triggered.is_hit,
        **({"deduplicated": True} if triggered.is_duplicate else {}),
    }


def _result(store: JobsStore, triggered: Triggered) -> dict[str, Any]:
    return {
        "id": triggered.row.id,
        "status": triggered.row.status,
        "run_token": _token(store, triggered) if triggered.is_new else "",
        "idempotency_hit": triggered.is_hit,
    }


def _token(store: JobsStore, triggered: Triggered) -> str:
    row = triggered.row
    of = AttemptOfToken(row.id, row.attempt, row.retries)
    return run_token(store.token_secret, of, row.created_at, row.expires_at)
