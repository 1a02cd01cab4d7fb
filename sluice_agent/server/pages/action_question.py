"""``/actions/new``: asks before jobs are retried or revoked, and shows what would be sent.

The form of the page begins a bulk action, also for a single job. It has the id of the action, so that sent twice it
begins one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple
from urllib.parse import quote
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response

from sluice_agent.server.access.principal import Principal, require_operator
from sluice_agent.server.actions.acting import RetryOpenError
from sluice_agent.server.actions.ledger import ItemState, Kind
from sluice_agent.server.actions.matching import LARGEST
from sluice_agent.server.actions.request import AWAY, ActionRequest, Preview, known
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages import formats
from sluice_agent.server.pages.ability import VERBS, ask_href
from sluice_agent.server.pages.forms import OperatorForm, check_selection, see_other
from sluice_agent.server.pages.jobs_address import NEWEST, Address
from sluice_agent.server.pages.render import NO_STORE, Layout, render
from sluice_agent.server.pages.scope import Scope, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.filter_text import filter_text
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.selection import requested_filter
from sluice_agent.server.queries.stored_job import load_job
from sluice_agent.server.record.ids import job_id
from sluice_agent.server.timestamps import to_moment

_PREVIEWED = 20
"""Jobs of which it is looked up whether they can be acted on, before it is asked."""

_LONGEST_CALL = 5_000  # characters of arguments
_MOST_JOBS = 100  # of a selection
_WAIT = 1.5  # seconds that the answer for a single job waits for its end
_PAUSE = 0.03
_NOTES = {
    Kind.RETRY: "A retry is a new job with an id of its own, and the same arguments.",
    Kind.REVOKE: "All workers are asked not to run what has not begun. A job that runs goes on.",
}

PageOperator = Annotated[Principal, Depends(require_operator)]


class Call(NamedTuple):
    """What would be sent for the first job that can be acted on: its arguments as text, of which `cut` characters are
    not shown."""

    id: str
    external_id: str
    name: str
    queue: str | None
    state: str
    arguments: str | None
    cut: int
    notes: Sequence[str]


class Reason(NamedTuple):
    """Why jobs can't be acted on, how many of those that were looked at, and that in words."""

    text: str
    jobs: int
    share: str


@dataclass(frozen=True, slots=True)
class Question:
    """The page that asks. `fields` are those of its form. There is nothing to do unless it `may_go`: without a `call`
    that is so only if not all jobs were looked at."""

    verb: str
    subject: str
    total: int
    going: int
    """How many jobs go: all but those of which it is known that they can't."""
    is_cut: bool
    may_go: bool
    call: Call | None
    reasons: Sequence[Reason]
    explanation: str
    fields: Sequence[tuple[str, str]]
    back: str
    again: str | None
    """The address of the same question for jobs whose last retry has not ended, if that is the only reason."""


def question_router(sources: Sources) -> APIRouter:
    """Return the routes of the question and of its form."""
    router = APIRouter()
    acting = sources.acting

    @router.get("/actions/new")
    def new(
        request: Request,
        principal: PageOperator,
        kind: Kind,
        job: Annotated[list[str], Query(max_length=_MOST_JOBS, default_factory=list)],
        again: bool = False,
    ) -> HTMLResponse:
        check_selection(request, job)
        now = sources.now()
        wanted = requested_filter((name, value) for name, value in request.query_params.multi_items() if value)
        asked = ActionRequest(acting, principal, kind, again=again)
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, wanted.connection_id)
        wanted = _of_scope(wanted, scope)
        if job:
            view = _question_of_jobs(asked, kind, wanted, job, again=again)
        else:
            view = _question_of_filter(asked, kind, wanted, to_moment(now), again=again)
        layout = Layout("jobs", f"{view.verb} {view.subject}?", now, scope)
        return render(request, "action_new.html", layout, view, headers=NO_STORE)

    @router.post("/actions")
    def begin(form: OperatorForm) -> Response:
        try:
            kind = Kind(form.value("kind"))
        except ValueError:
            raise RefusedError(400, "The field kind of the form must be retry or revoke.") from None
        asked = ActionRequest(acting, form.principal, kind, again=form.value("again", "") == "true")
        token, jobs, connection = form.uuid("token"), form.values("job"), UUID(form.uuid("connectionId"))
        if len(jobs) > _MOST_JOBS:
            raise RefusedError(400, f"At most {_MOST_JOBS} jobs can be selected.")
        if jobs:
            asked.begin_with(jobs, connection, token)
        else:
            asked.begin(requested_filter(form.fields), token)
        new_job = _wait_for_single(sources, token) if len(jobs) == 1 else None
        return see_other(f"/actions/{token}" if new_job is None else f"/jobs/{quote(new_job)}")

    return router


def _of_scope(wanted: JobFilter, scope: Scope) -> JobFilter:
    """Return the filter for the connection of the page."""
    if scope.connection is None:
        raise RefusedError(404, "There is no connection yet, and so no job.")
    return replace(wanted, connection_id=UUID(scope.connection.id))


def _question_of_jobs(
    asked: ActionRequest, kind: Kind, wanted: JobFilter, ids: Sequence[str], *, again: bool
) -> Question:
    uuids = [known(uuid) for uuid in asked.resolve(ids, asked.connections_of(wanted))]
    jobs = [str(UUID(bytes=uuid)) for uuid in uuids]
    fields = [("connectionId", str(wanted.connection_id)), *(("job", job) for job in jobs)]
    question = _question(asked, kind, uuids, fields, again=again)
    is_single = len(jobs) == 1
    subject = question.call.name if is_single and question.call else formats.counted(len(jobs), "job")
    return replace(question, subject=subject, back=f"/jobs/{jobs[0]}" if is_single else question.back)


def _question_of_filter(asked: ActionRequest, kind: Kind, wanted: JobFilter, now: int, *, again: bool) -> Question:
    uuids = asked.matching(wanted)
    fields = wanted.to_parameters()
    question = _question(asked, kind, uuids, fields, again=again)
    text = filter_text(replace(wanted.within_states(kind.states), connection_id=None), now)
    subject = f"{formats.number(len(uuids))} {text}"
    back = Address(replace(wanted, connection_id=None), NEWEST, [("connectionId", str(wanted.connection_id))]).href()
    return replace(question, subject=subject, back=back, is_cut=len(uuids) == LARGEST)


def _question(
    asked: ActionRequest, kind: Kind, uuids: Sequence[bytes], fields: Sequence[tuple[str, str]], *, again: bool
) -> Question:
    look = _look_at(asked, uuids[:_PREVIEWED])
    is_whole = look.jobs == len(uuids)
    hidden = [("kind", kind.value), ("token", str(uuid4())), *([("again", "true")] if again else []), *fields]
    same = ask_href([("kind", kind.value), ("again", "true"), *fields])
    return Question(
        verb=VERBS[kind],
        subject="",
        total=len(uuids),
        going=len(uuids) - look.reasons.total() if is_whole else len(uuids),
        is_cut=False,
        may_go=look.call is not None or (not is_whole and not look.is_away),
        call=look.call,
        reasons=[
            Reason(text, jobs, _share(jobs, look.jobs, is_whole=is_whole)) for text, jobs in look.reasons.most_common()
        ],
        explanation=_NOTES[kind],
        fields=hidden,
        back="/jobs",
        again=same if look.is_open and look.call is None else None,
    )


def _share(jobs: int, looked_at: int, *, is_whole: bool) -> str:
    """Return how many of the jobs that were looked at, in words: ``4 of the first 20``."""
    if jobs == looked_at:
        return f"All {looked_at}" if is_whole else f"All of the first {looked_at}"
    return f"{jobs} of {looked_at}" if is_whole else f"{jobs} of the first {looked_at}"


class Look(NamedTuple):
    """What was seen of so many `jobs`: the call of the first that can be acted on, and why others can't, by their
    number; whether the last retry of one has not ended; and whether the broker is away, so that no further one was
    tried."""

    jobs: int
    call: Call | None
    reasons: Counter[str]
    is_open: bool
    is_away: bool


def _look_at(asked: ActionRequest, uuids: Sequence[bytes]) -> Look:
    call: Call | None = None
    reasons: Counter[str] = Counter()
    is_open = False
    for looked_at, uuid in enumerate(uuids, 1):
        try:
            preview = asked.preview_known(uuid)
        except RefusedError as refusal:
            has_open = isinstance(refusal, RetryOpenError)
            reasons[RetryOpenError.reason if has_open and len(uuids) > 1 else refusal.message] += 1
            is_open = is_open or has_open
            if refusal.status == AWAY:
                return Look(looked_at, call, reasons, is_open, is_away=True)
        else:
            call = call or _call(preview)
    return Look(len(uuids), call, reasons, is_open, is_away=False)


def _call(preview: Preview) -> Call:
    record = preview.record
    text = None if preview.args is None else _arguments(preview)
    shown = None if text is None else text[:_LONGEST_CALL]
    return Call(
        record["id"],
        record["externalId"],
        preview.name,
        preview.queue,
        record["state"],
        shown,
        len(text or "") - len(shown or ""),
        preview.notes,
    )


def _arguments(preview: Preview) -> str:
    """Return the arguments as in a call of the function."""
    args, kwargs = preview.plain_args, preview.plain_kwargs
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        return f"{args}, {kwargs}"
    positional = [json.dumps(value, ensure_ascii=False) for value in args]
    named = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in kwargs.items()]
    return f"({', '.join([*positional, *named])})"


def _wait_for_single(sources: Sources, action: str) -> str | None:
    """Wait shortly for the end of the action of one job; return Sluice's id of the new job if it was retried."""
    ledger = sources.acting.ledger
    deadline = time.monotonic() + _WAIT
    while (found := ledger.find(action)) is not None and found.state.is_open:
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE)
    items = ledger.items(action, ItemState.SUCCEEDED, 1)
    if not items:
        return None
    [item] = items
    with sources.store.reading() as reader:
        stored = load_job(reader, item.job)
    if stored is None:
        return None
    if item.task_id is None:  # it was revoked
        return str(UUID(bytes=item.job))
    return job_id(stored.connection_id, item.task_id)
