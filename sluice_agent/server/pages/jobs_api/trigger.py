"""``/definitions/{id}/trigger``: a run of a job, with a form that is made from the schema of its payload.

A dry run shows what would become of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple
from uuid import uuid4

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool

from sluice_agent.jobs.definitions.jobs import Job
from sluice_agent.jobs.json_text import indented, parse
from sluice_agent.jobs.store.takers import abandoned_queue
from sluice_agent.server.pages.action_question import PageOperator
from sluice_agent.server.pages.forms import OperatorForm, SentForm, see_other
from sluice_agent.server.pages.jobs_api.api import Answer
from sluice_agent.server.pages.jobs_api.payload_form import PayloadForm, filled, form_of, payload_in
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, Wanted, scope_of_job
from sluice_agent.server.pages.render import NO_STORE, render
from sluice_agent.server.pages.scope import ConnectionId

_OPTIONS = ("idempotency_key", "concurrency_key")
_NUMBERS = ("priority", "ttl_secs")
_OBJECTS = ("tags", "metadata")
_OTHERS = ("scheduled_at", "debug_mode")
_NUMBERED = re.compile(r"^payload \(\d+\): ")
_WHOLE = "payload"
"""The field of the whole payload as JSON."""


class DryRun(NamedTuple):
    """What would become of a trigger. Without `scheduled_at` it would begin at once."""

    scheduled_at: str | None
    expires_at: str | None
    warnings: Sequence[str]
    payload: str


class TriggerView(NamedTuple):
    """The form. `form` is that of the payload's properties, None: the payload is one field for JSON."""

    job_id: str
    name: str
    version: int
    is_enabled: bool
    is_paused: bool
    queue: str | None
    form: PayloadForm | None
    texts: Mapping[str, str]
    can_switch: bool
    """Whether the payload may be given in the other form as well."""
    errors: Sequence[str]
    dry_run: DryRun | None
    token: str
    has_options: bool
    has_heads: bool
    """Whether there are heads that debug mode can keep: a Celery task has none."""


def trigger_router(sources: JobsSources) -> APIRouter:
    """Return the routes of the form."""
    router = APIRouter()

    @router.get("/definitions/{job_id}/trigger")
    def new(
        request: Request,
        principal: PageOperator,
        job_id: str,
        form: Annotated[str, Query(pattern="^(json)?$")] = "",
        connection_id: ConnectionId = None,
    ) -> HTMLResponse:
        page = _Page(sources, Wanted(principal, None, connection_id), job_id)
        return page.show(request, {}, is_json=form == "json")

    @router.post("/definitions/{job_id}/trigger")
    async def send(request: Request, form: OperatorForm, job_id: str) -> Response:
        page = await run_in_threadpool(_Page, sources, Wanted(form.principal), job_id)
        return await page.send(request, form)

    return router


class _Page:
    """The form of one job. Raises `RefusedError` (404) if there is no such job."""

    def __init__(self, sources: JobsSources, wanted: Wanted, job_id: str) -> None:
        self._sources = sources
        with sources.store.reading() as reader:
            self._scope: JobsScope
            self._job: Job
            self._scope, self._job = scope_of_job(sources, reader, wanted, job_id)
            self._queue = abandoned_queue(reader)
        self._form = form_of(self._job.settings.payload_schema)

    async def send(self, request: Request, form: SentForm) -> Response:
        """Trigger a run, or try it without one, and answer with what has come of it."""
        texts = _texts_of(form)
        token, is_json, is_dry = form.uuid("token"), _WHOLE in texts, form.value("do", "trigger") == "dry-run"
        body, wrong = self._body_of(texts, is_json=is_json)
        if wrong:
            return await self._again(request, texts, wrong, is_json=is_json)
        api = self._sources.api
        path = f"/jobs/{self._job.id}/trigger"
        if is_dry:
            answer = await api.send(request, "POST", path, {**body, "dry_run": True})
            return await self._again(request, texts, _faults(answer), is_json=is_json, dry_run=_dry_run(answer))
        answer = await api.send(request, "POST", path, body, new_id=token)
        if answer.is_refusal:
            return await self._again(request, texts, _faults(answer), is_json=is_json)
        return see_other(self._scope.href(f"/runs/{answer.body['id']}"))

    async def _again(
        self,
        request: Request,
        texts: Mapping[str, str],
        errors: Sequence[str],
        *,
        is_json: bool,
        dry_run: DryRun | None = None,
    ) -> Response:
        def shown() -> HTMLResponse:
            return self.show(request, texts, errors, is_json=is_json, dry_run=dry_run)

        return await run_in_threadpool(shown)

    def show(
        self,
        request: Request,
        texts: Mapping[str, str],
        errors: Sequence[str] = (),
        *,
        is_json: bool,
        dry_run: DryRun | None = None,
    ) -> HTMLResponse:
        """Return the page with what was typed."""
        form = None if is_json else self._form
        if form is not None and texts:
            form = filled(form, texts, errors)
        view = TriggerView(
            job_id=self._job.id,
            name=self._job.settings.name,
            version=self._job.version,
            is_enabled=self._job.enabled,
            is_paused=self._job.paused_at is not None,
            queue=self._queue,
            form=form,
            texts={_WHOLE: "{}", "debug_mode": "", **texts},
            can_switch=self._form is not None and not texts,
            errors=errors,
            dry_run=dry_run,
            token=texts.get("token") or str(uuid4()),
            has_options=any(texts.get(name, "").strip() for name in (*_OPTIONS, *_NUMBERS, *_OBJECTS, *_OTHERS)),
            has_heads=self._job.settings.task is None,
        )
        layout = self._scope.layout(self._sources, "definitions", f"Trigger {view.name}")
        return render(request, "trigger.html", layout, view, 400 if errors else 200, NO_STORE)

    def _body_of(self, texts: Mapping[str, str], *, is_json: bool) -> tuple[dict[str, Any], list[str]]:
        """Return the body of the trigger, and what is wrong with it."""
        wrong: list[str] = []
        if is_json or self._form is None:
            payload = _json("payload", texts.get(_WHOLE, ""), wrong)
        else:
            payload, wrong = payload_in(self._form, texts)
        body: dict[str, Any] = {} if payload is None else {"payload": payload}
        body |= {name: texts[name] for name in _OPTIONS if texts.get(name, "").strip()}
        for name in _NUMBERS:
            text = texts.get(name, "").strip()
            if text and not (text.isascii() and text.isdigit() and len(text) < 10):
                wrong.append(f"{name}: must be a whole number")
            elif text:
                body[name] = int(text)
        for name in _OBJECTS:
            if texts.get(name, "").strip():
                body[name] = _json(name, texts[name], wrong)
        if texts.get("scheduled_at", "").strip():
            body["scheduled_at"] = texts["scheduled_at"].strip()
        if texts.get("debug_mode") == "yes":
            body["debug_mode"] = True
        return body, wrong


def _texts_of(form: SentForm) -> dict[str, str]:
    """Return the texts of a form: of boxes with one name the values of those that are ticked, one in each line."""
    texts: dict[str, str] = {}
    for name, value in form.fields:
        texts[name] = f"{texts[name]}\n{value}" if name in texts else value
    return texts


def _json(name: str, text: str, wrong: list[str]) -> Any:
    if not text.strip():
        return None
    try:
        return parse(text.encode())
    except ValueError as error:
        wrong.append(f"{name}: it is not JSON that can be used: {error}")
        return None


def _faults(answer: Answer) -> list[str]:
    """Return what is wrong: of several faults of a payload each line is as that of a single one."""
    return [answer.message, *(_NUMBERED.sub("payload: ", line) for line in answer.details)] if answer.is_refusal else []


def _dry_run(answer: Answer) -> DryRun | None:
    if answer.is_refusal:
        return None
    body = answer.body
    return DryRun(
        body.get("scheduled_at"), body.get("expires_at"), body.get("validation_warnings", []), indented(body["payload"])
    )
