"""``/dead-letters``: runs whose attempts are used up, and the question before some, or all that match, are replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from sqlalchemy import Connection

from sluice_agent.jobs.runs.replays import Replay, ReplayState, list_replays
from sluice_agent.jobs.runs.search import RunFilter, count_runs, settings_of
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.page import PageRequest
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages import formats
from sluice_agent.server.pages.action_question import PageOperator
from sluice_agent.server.pages.forms import check_selection, see_other
from sluice_agent.server.pages.jobs_api.api import part_of_path
from sluice_agent.server.pages.jobs_api.parameters import RunsAddress, filter_of
from sluice_agent.server.pages.jobs_api.question import Question, ask
from sluice_agent.server.pages.jobs_api.run_list import RunsView, count_text, runs_view
from sluice_agent.server.pages.jobs_api.runs import Cursor
from sluice_agent.server.pages.jobs_api.scope import JobsScope, JobsSources, Wanted, WantedScope, jobs_scope_of
from sluice_agent.server.pages.no_jobs import no_jobs_page
from sluice_agent.server.pages.render import render
from sluice_agent.server.timestamps import timestamp_of

_REPLAYS = 20  # of which those are shown that go on


class DeadLettersView(NamedTuple):
    """The list. `replay_all` is the address of the question about all that match, None if the reader can't act;
    `replays` are those that go on."""

    list: RunsView
    replays: Sequence[Replay]
    has_replays: bool
    replay_all: str | None
    may_act: bool
    why_not: str | None


def dead_letters_router(sources: JobsSources) -> APIRouter:
    """Return the routes of the list and of the question."""
    router = APIRouter()

    @router.get("/dead-letters")
    def dead_letters(request: Request, wanted: WantedScope, cursor: Cursor = None) -> HTMLResponse:
        with sources.store.reading() as reader:
            scope = jobs_scope_of(sources, reader, wanted)
            if scope.project is None:
                return no_jobs_page(sources.pages, request, "dead-letters", scope.connections)
            address = _address(scope, request.query_params.multi_items())
            found = runs_view(reader, address, cursor or None, sources.moment)
            replays = list_replays(reader, scope.project, PageRequest(_REPLAYS)).items
        all_href = replace(address, path="/dead-letters/replay").href() if scope.may_act and found.rows else None
        open_ = [replay for replay in replays if replay.state is ReplayState.RUNNING]
        why_not = scope.why_not if found.rows else None
        view = DeadLettersView(found, open_, bool(replays), all_href, scope.may_act, why_not)
        title = f"Dead letters · {found.count}" if found.has_runs else "Dead letters"
        layout = scope.layout(sources, "dead-letters", title, is_live=True)
        return render(request, "dead_letters.html", layout, view)

    @router.get("/dead-letters/replay")
    def ask_to_replay(request: Request, principal: PageOperator) -> Response:
        pairs = request.query_params.multi_items()
        wanted = Wanted(principal, request.query_params.get("project"))
        with sources.store.reading() as reader:
            scope = existing_scope(sources, reader, wanted)
            ids = [value for name, value in pairs if name == "run"]
            check_selection(request, ids)
            if len(ids) == 1:
                return see_other(scope.href(f"/runs/{part_of_path(ids[0])}/replay"))
            address = _address(scope, pairs)
            question = _question_of_runs(scope, ids) if ids else _question_of_filter(reader, address)
        return ask(request, scope.layout(sources, "dead-letters", question.title), question)

    return router


def filter_of_dead_letters(scope: JobsScope, pairs: Sequence[tuple[str, str]]) -> RunFilter:
    """Return the filter in parameters or fields. Raises `RefusedError` (400) if one is not valid."""
    wanted = filter_of(scope.project or "", [pair for pair in pairs if pair[0] != "status"])
    return replace(wanted, statuses=(Status.DEAD_LETTER,))


def _address(scope: JobsScope, pairs: Sequence[tuple[str, str]]) -> RunsAddress:
    return RunsAddress("/dead-letters", filter_of_dead_letters(scope, pairs), scope.parameters)


def existing_scope(sources: JobsSources, reader: Connection, wanted: Wanted) -> JobsScope:
    """Return the scope of a page about dead letters. Raises `RefusedError` (404) if no job is defined."""
    scope = jobs_scope_of(sources, reader, wanted)
    if scope.project is None:
        raise RefusedError(404, "No job is defined yet, and so there is no dead letter.")
    return scope


def _question_of_runs(scope: JobsScope, ids: Sequence[str]) -> Question:
    return Question(
        title=f"Replay {formats.counted(len(ids), 'dead letter')}",
        text=_EXPLANATION,
        action="/dead-letters/replays",
        button=f"Replay {formats.counted(len(ids), 'run')}",
        back=scope.href("/dead-letters"),
        fields=[*(("run", id_) for id_ in ids), ("project", scope.project or ""), ("token", str(uuid4()))],
    )


def _question_of_filter(reader: Connection, address: RunsAddress) -> Question:
    count = count_runs(reader, address.wanted)
    text = described(reader, address.wanted)
    return Question(
        title=f"Replay {count_text(count)} dead letters{text}" if count.runs != 1 else f"Replay 1 dead letter{text}",
        text=_EXPLANATION if count.runs else "There is none any more: they have been replayed meanwhile.",
        action="/dead-letters/replays",
        button=f"Replay {count_text(count)}" if count.runs else None,
        back=address.href(),
        fields=[
            *(pair for pair in address.parameters() if pair[0] not in ("project", "connectionId")),
            ("project", address.wanted.project),
            ("token", str(uuid4())),
        ],
    )


_EXPLANATION = "Each begins again as the same run, with its first attempt and the same payload."


def described(reader: Connection, wanted: RunFilter) -> str:
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
