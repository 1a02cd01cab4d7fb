"""``/dead-letters``: runs whose attempts are used up, and the replay of some, or of all that match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from sluice_agent.jobs.runs.requests import MOST_ITEMS
from sluice_agent.jobs.runs.search import MOST_COUNTED, Count, RunFilter, count_runs, search_runs, settings_of
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages import formats
from sluice_agent.server.pages.action_question import PageOperator
from sluice_agent.server.pages.forms import OperatorForm, SentForm, see_other
from sluice_agent.server.pages.jobs_api.parameters import RunsAddress, filter_of
from sluice_agent.server.pages.jobs_api.question import Question, ask
from sluice_agent.server.pages.jobs_api.run_list import RunsView, count_text, runs_view
from sluice_agent.server.pages.jobs_api.runs import Cursor
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, Wanted, WantedScope, jobs_scope_of
from sluice_agent.server.pages.no_jobs import no_jobs_page
from sluice_agent.server.pages.render import NO_STORE, render
from sluice_agent.server.timestamps import moment_of, timestamp_of

_MOST = 5_000
"""Dead letters that one form replays."""

_DEAD = (Status.DEAD_LETTER,)
_EXAMPLES = 5


class DeadLettersView(NamedTuple):
    """The list. `replay_all` is the address of the question about all that match, None if the reader can't act."""

    list: RunsView
    replay_all: str | None
    may_act: bool
    why_not: str | None


class Refusal(NamedTuple):
    """A reason for which runs were not replayed, their number, and the ids of the first of them."""

    text: str
    runs: int
    examples: Sequence[str]


class ReplayedView(NamedTuple):
    """What has come of a replay. `rest` are dead letters that match and were left to a further form, whose question
    is at `again`."""

    replayed: int
    refusals: Sequence[Refusal]
    rest: Count
    rest_text: str
    again: str
    back: str
    runs: str


def dead_letters_router(sources: JobsSources) -> APIRouter:
    """Return the routes of the list, of the question, and of its form."""
    router = APIRouter()

    @router.get("/dead-letters")
    def dead_letters(request: Request, wanted: WantedScope, cursor: Cursor = None) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = jobs_scope_of(sources, reader, wanted)
            if scope.project is None:
                return no_jobs_page(sources.pages, request, "dead-letters", scope.connections)
            address = _address(scope, request.query_params.multi_items())
            found = runs_view(reader, address, cursor or None, sources.moment)
        all_href = replace(address, path="/dead-letters/replay").href() if scope.may_act and found.rows else None
        view = DeadLettersView(found, all_href, scope.may_act, scope.why_not if found.rows else None)
        title = f"Dead letters · {found.count}" if found.has_runs else "Dead letters"
        layout = scope.layout(sources, "dead-letters", title, is_live=True)
        return render(request, "dead_letters.html", layout, view)

    @router.get("/dead-letters/replay")
    def ask_to_replay(request: Request, principal: PageOperator) -> HTMLResponse:
        pairs = request.query_params.multi_items()
        wanted = Wanted(principal, request.query_params.get("project"))
        with sources.store.reading() as reader:
            scope = _existing(jobs_scope_of(sources, reader, wanted))
            ids = [value for name, value in pairs if name == "run"]
            address = _address(scope, pairs)
            question = _question_of_runs(scope, ids) if ids else _question_of_filter(sources, reader, address)
        return ask(request, scope.layout(sources, "dead-letters", question.title), question)

    @router.post("/dead-letters/replay")
    async def replay(request: Request, form: OperatorForm) -> Response:
        scope = await run_in_threadpool(_scope_of_form, sources, form)
        ids = form.values("run")
        if len(ids) > MOST_ITEMS:
            raise RefusedError(400, f"At most {MOST_ITEMS} runs can be selected.")
        address = _address(scope, form.fields)
        selected = replace(address.wanted, ended_before=_moment_in(form))
        if not ids:
            ids = await run_in_threadpool(_ids_of, sources, selected)
        replayed, refused = 0, list[tuple[str, str]]()
        for start in range(0, len(ids), MOST_ITEMS):
            answer = await sources.api.send(
                request, "POST", "/runs/dlq-replay", {"ids": ids[start : start + MOST_ITEMS]}
            )
            answer.raise_refusal()
            replayed += answer.body["replayed"]
            refused += ((item["id"], item["reason"]) for item in answer.body.get("refused", []))
        if len(ids) == 1 and replayed:
            return see_other(scope.href(f"/runs/{ids[0]}"))
        is_of_filter = not form.values("run")
        return await run_in_threadpool(
            _replayed_page, sources, request, scope, address, selected, replayed, refused, is_of_filter=is_of_filter
        )

    return router


def _address(scope: JobsScope, pairs: Sequence[tuple[str, str]]) -> RunsAddress:
    filters = filter_of(scope.project or "", [pair for pair in pairs if pair[0] != "status"])
    return RunsAddress("/dead-letters", replace(filters, statuses=_DEAD), scope.parameters)


def _existing(scope: JobsScope) -> JobsScope:
    if scope.project is None:
        raise RefusedError(404, "No job is defined yet, and so there is no dead letter.")
    return scope


def _scope_of_form(sources: JobsSources, form: SentForm) -> JobsScope:
    with sources.store.reading() as reader:
        wanted = Wanted(form.principal, form.value("project", "") or None)
        return _existing(jobs_scope_of(sources, reader, wanted))


def _question_of_runs(scope: JobsScope, ids: Sequence[str]) -> Question:
    return Question(
        title=f"Replay {formats.counted(len(ids), 'dead letter')}",
        text=_EXPLANATION,
        action="/dead-letters/replay",
        button=f"Replay {formats.counted(len(ids), 'run')}",
        back=scope.href("/dead-letters"),
        fields=[*(("run", id_) for id_ in ids), ("project", scope.project or "")],
    )


def _question_of_filter(sources: JobsSources, reader: Connection, address: RunsAddress) -> Question:
    count = count_runs(reader, address.wanted)
    text = _described(reader, address.wanted)
    explanation = _EXPLANATION
    if count.runs > _MOST:
        explanation += f" The newest {formats.number(_MOST)} go with this form, and further ones with the next."
    button = f"Replay {formats.number(min(count.runs, _MOST))}"
    return Question(
        title=f"Replay {count_text(count)} dead letters{text}" if count.runs != 1 else f"Replay 1 dead letter{text}",
        text=explanation if count.runs else "There is none any more: they have been replayed meanwhile.",
        action="/dead-letters/replay",
        button=button if count.runs else None,
        back=address.href(),
        fields=[
            *(pair for pair in address.parameters() if pair[0] not in ("project", "connectionId")),
            ("project", address.wanted.project),
            ("ended_before", timestamp_of(sources.moment + 1_000)),
        ],
    )


_EXPLANATION = "Each begins again as the same run, with its first attempt and the same payload."


def _described(reader: Connection, wanted: RunFilter) -> str:
    """Return what a filter leaves, as the end of a sentence."""
    texts = []
    if wanted.job_id is not None:
        settings = settings_of(reader, [wanted.job_id])
        texts.append(f"of {settings[wanted.job_id].name if wanted.job_id in settings else wanted.job_id}")
    if wanted.error_class is not None:
        texts.append(f"with the error class {wanted.error_class}")
    if wanted.batch_id is not None:
        texts.append(f"of the batch {formats.shortened(wanted.batch_id)}")
    if wanted.text is not None:
        texts.append(f"matching “{formats.first_line(wanted.text, 60)}”")
    if wanted.created_from is not None:
        texts.append(f"created from {formats.full_time(timestamp_of(wanted.created_from))}")
    if wanted.created_before is not None:
        texts.append(f"created before {formats.full_time(timestamp_of(wanted.created_before))}")
    return "".join(f" {text}" for text in texts)


def _moment_in(form: SentForm) -> int | None:
    """Return the moment of the question: what has failed again since is not replayed once more."""
    text = form.value("ended_before", "")
    moment = moment_of(text) if text else None
    if moment is None and not form.values("run"):
        raise RefusedError(400, "The form must have the field ended_before: open its page again.")
    return moment


def _ids_of(sources: JobsSources, wanted: RunFilter) -> list[str]:
    with sources.store.reading() as reader:
        return [row.id for row in search_runs(reader, wanted, PageRequest(_MOST)).items]


def _replayed_page(
    sources: JobsSources,
    request: Request,
    scope: JobsScope,
    address: RunsAddress,
    selected: RunFilter,
    replayed: int,
    refused: Sequence[tuple[str, str]],
    *,
    is_of_filter: bool,
) -> HTMLResponse:
    reasons = Counter(reason for _, reason in refused)
    refusals = [
        Refusal(reason, runs, [id_ for id_, other in refused if other == reason][:_EXAMPLES])
        for reason, runs in reasons.most_common()
    ]
    with sources.store.reading() as reader:
        rest = count_runs(reader, selected) if is_of_filter else Count(0, is_exact=True)
    rest = Count(max(0, rest.runs - len(refused)), rest.is_exact) if rest.runs < MOST_COUNTED else rest
    again = replace(address, path="/dead-letters/replay").href()
    view = ReplayedView(replayed, refusals, rest, count_text(rest), again, address.href(), scope.href("/runs"))
    layout = scope.layout(sources, "dead-letters", f"{formats.counted(replayed, 'dead letter')} replayed")
    return render(request, "replayed.html", layout, view, headers=NO_STORE)
