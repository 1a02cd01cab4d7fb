"""``/jobs``: the list of jobs, with its filters, its order and its pages in the address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from sluice_agent.model import JobState
from sluice_agent.server.pages import formats
from sluice_agent.server.pages.ability import Ability, ability_of, kind_for, kinds_for, question_href
from sluice_agent.server.pages.explanations import EXPLANATIONS
from sluice_agent.server.pages.jobs_address import NEWEST, Address
from sluice_agent.server.pages.last_run import LastRun, last_run_of
from sluice_agent.server.pages.render import Layout, render
from sluice_agent.server.pages.scope import PageViewer, Scope, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.queries.filter_text import filter_text
from sluice_agent.server.queries.job_filter import JobFilter
from sluice_agent.server.queries.jobs import Page, attempts_of, list_jobs, newer_cursor
from sluice_agent.server.queries.labels import texts_in_use
from sluice_agent.server.queries.order import Order
from sluice_agent.server.queries.selection import requested_filter
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.queries.state_counts import counts_by_state
from sluice_agent.server.store.schema import LabelKind
from sluice_agent.server.timestamps import moment_of, timestamp_or_none, to_moment

LIMIT = 50
"""Jobs on a page."""

_SUGGESTIONS = 200  # values that a filter offers
_STATES = tuple(
    JobState(state)
    for state in ("active", "queued", "scheduled", "retrying", "failed", "completed", "cancelled", "unknown")
)
_MINUTE = 60_000_000  # in microseconds, as all moments
_PERIODS = (("15 minutes", 15), ("hour", 60), ("24 hours", 1_440), ("7 days", 10_080))
_TEXTUAL = (SortBy.NAME, SortBy.QUEUE, SortBy.WORKER, SortBy.STATE)
_LABELS = {
    "name": "Task",
    "queue": "Queue",
    "worker": "Worker",
    "errorClass": "Error class",
    "errorLocation": "Raised at",
    "problem": "Problem",
    "framework": "Framework",
    "groupId": "Group",
    "rootId": "Canvas",
    "search": "Search",
    "from": "Created from",
    "to": "Created before",
}
"""What the filters are called, but for the states, which have chips of their own."""

_KINDS = {
    "name": LabelKind.NAME,
    "queue": LabelKind.QUEUE,
    "worker": LabelKind.WORKER,
    "errorClass": LabelKind.ERROR_CLASS,
}
_COLUMNS = (
    ("State", SortBy.STATE),
    ("Task", SortBy.NAME),
    ("Id", None),
    ("Queue", SortBy.QUEUE),
    ("Worker", SortBy.WORKER),
    ("Attempt", None),
    ("Created", SortBy.CREATED_AT),
    ("Wait, s", None),
    ("Run, s", SortBy.DURATION_MS),
)
_CLASSES = {
    "Queue": "queue",
    "Worker": "middle",
    "State": "state-column",
    "Id": "id",
    "Attempt": "number wide",
    "Wait, s": "number",
    "Run, s": "number",
}
_ORDERS = (
    ("Newest first", SortBy.CREATED_AT, SortOrder.DESC),
    ("Oldest first", SortBy.CREATED_AT, SortOrder.ASC),
    ("Last changed first", SortBy.STATE_CHANGED_AT, SortOrder.DESC),
    ("Longest run first", SortBy.DURATION_MS, SortOrder.DESC),
    ("By task", SortBy.NAME, SortOrder.ASC),
    ("By state", SortBy.STATE, SortOrder.ASC),
)


class Choice(NamedTuple):
    """A link that changes the view: to a state, a period or an order. `jobs` is how many it shows, if that is known."""

    label: str
    href: str
    is_current: bool
    jobs: int | None = None


class ActiveFilter(NamedTuple):
    """A filter that is set, by its text or its timestamp, and the address without it."""

    label: str
    value: str
    moment: str | None
    href: str


class Field(NamedTuple):
    """A field of the form that adds a filter, with the values that it offers."""

    name: str
    label: str
    suggestions: Sequence[str]


class Column(NamedTuple):
    """A column, and by which link it sorts; `direction` is that of the present order if it sorts by this column."""

    label: str
    href: str | None
    direction: str | None
    css_class: str


class JobRow(NamedTuple):
    """A job: its fields as in the API, its attempt, and its last run."""

    job: Mapping[str, Any]
    attempt: int
    last: LastRun


@dataclass(frozen=True, slots=True)
class JobsView:
    """The page of a list of jobs."""

    heading: str
    """What is listed: the jobs of a state if that is the only one."""
    count: str
    description: str
    is_filtered: bool
    has_jobs: bool
    states: Sequence[Choice]
    periods: Sequence[Choice]
    orders: Sequence[Choice]
    active: Sequence[ActiveFilter]
    fields: Sequence[Field]
    hidden: Sequence[tuple[str, str]]
    """The parameters that forms keep."""
    explanation: str | None
    """What is probably wrong with these jobs, if they are filtered by a problem."""
    wanted: JobFilter
    columns: Sequence[Column]
    rows: Sequence[JobRow]
    range: str
    is_newest_first: bool
    first: str | None
    newer: str | None
    older: str | None
    without_filters: str
    kinds: Sequence[str]
    """What the reader can do with selected jobs: without any, none can be selected."""
    why_not: str | None
    """Why nothing can be done with these jobs, if a sentence helps."""
    all_kind: str | None
    """What can be done with all jobs that match: retry or revoke."""
    all_href: str


def jobs_router(sources: Sources) -> APIRouter:
    """Return the route of the list."""
    router = APIRouter()

    @router.get("/jobs")
    def jobs(
        request: Request,
        principal: PageViewer,
        sort_by: Annotated[SortBy, Query(alias="sortBy")] = NEWEST.by,
        sort_order: Annotated[SortOrder, Query(alias="sortOrder")] = NEWEST.direction,
        cursor: Annotated[str | None, Query(max_length=1_000, pattern=r"^[^\x00]*$")] = None,
    ) -> HTMLResponse:
        wanted = requested_filter((name, value) for name, value in request.query_params.multi_items() if value)
        now = sources.now()
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, wanted.connection_id)
            connection = [("connectionId", scope.connection.id)] if scope.connection and scope.is_ambiguous else []
            address = Address(replace(wanted, connection_id=None), Order(sort_by, sort_order), connection)
            view = jobs_view(reader, scope, ability_of(sources, reader, scope), address, cursor or None, to_moment(now))
        return render(request, "jobs.html", Layout("jobs", _title(view), now, scope, ("job",)), view)

    return router


def jobs_view(
    reader: Connection, scope: Scope, ability: Ability, address: Address, cursor: str | None, now: int
) -> JobsView:
    """Return the page of `address` that begins after `cursor`.

    Raises `RefusedError` (400) if that is the cursor of another list.
    """
    wanted = address.wanted
    page = list_jobs(reader, scope.numbers, wanted, address.order, LIMIT, cursor, now=now)
    is_filtered = wanted != JobFilter()
    possible = kind_for(wanted) if page.jobs else None
    all_kind = possible if ability.is_given else None
    own = replace(wanted, connection_id=UUID(scope.connection.id)) if scope.connection else wanted
    newer = newer_cursor(reader, scope.numbers, wanted, address.order, LIMIT, cursor, now=now) if cursor else None
    return JobsView(
        heading=f"{wanted.states[0].value.capitalize()} jobs" if len(wanted.states) == 1 else "Jobs",
        count=_total(page),
        description=filter_text(wanted, now) if is_filtered else "jobs",
        is_filtered=is_filtered,
        has_jobs=bool(page.jobs) or is_filtered or cursor is not None,
        states=_state_choices(reader, scope, address, now),
        periods=list(_periods(address, now)),
        orders=[
            Choice(label, address.with_order(by, direction).href(), address.order == Order(by, direction))
            for label, by, direction in _ORDERS
        ],
        active=list(_active_filters(address)),
        fields=_fields(reader, scope),
        hidden=address.parameters(),
        explanation=None if wanted.problem is None else EXPLANATIONS[wanted.problem],
        wanted=wanted,
        columns=[_column(label, by, address) for label, by in _COLUMNS],
        rows=_rows(reader, page.jobs, now),
        range=f"{formats.number(len(page.jobs))} of {_total(page)}",
        is_newest_first=address.order == NEWEST,
        first=address.href() if cursor else None,
        newer=address.href(cursor=newer) if cursor else None,
        older=address.href(cursor=page.next_cursor) if page.next_cursor else None,
        without_filters=address.with_filter(JobFilter()).href(),
        kinds=[kind.value for kind in kinds_for(wanted)] if ability.is_given else [],
        why_not=None if possible is None else ability.reason,
        all_kind=None if all_kind is None else all_kind.value,
        all_href="" if all_kind is None else question_href(all_kind, own),
    )


def _title(view: JobsView) -> str:
    """Return the title, which names the filter: jobs in a state by that alone, as in ``12 failed``."""
    if not view.has_jobs:
        return "Jobs"
    return f"Jobs · {view.count} {view.description.removesuffix('jobs')}".rstrip()


def _total(page: Page) -> str:
    return formats.number(page.total) if page.is_total_exact else f"{formats.number(page.total)}+"


def _state_choices(reader: Connection, scope: Scope, address: Address, now: int) -> list[Choice]:
    """Return a choice for each state, by which it is added to the filter or taken from it."""
    wanted = address.wanted
    is_counted = wanted.problem is None  # which jobs have a problem would have to be found a second time
    counts = counts_by_state(reader, scope.numbers, wanted, now) if is_counted else None
    selected = list(wanted.states)
    choices = []
    for state in _STATES:
        states = [other for other in selected if other is not state] if state in selected else [*selected, state]
        href = address.with_filter(replace(wanted, states=states)).href()
        choices.append(Choice(state.value, href, state in selected, None if counts is None else counts.get(state, 0)))
    return choices


def _periods(address: Address, now: int) -> Iterator[Choice]:
    wanted = address.wanted
    whenever = replace(wanted, created_from=None, created_to=None)
    yield Choice("Any time", address.with_filter(whenever).href(), wanted == whenever)
    for label, minutes in _PERIODS:
        start = (now // _MINUTE - minutes) * _MINUTE
        yield Choice(f"Last {label}", address.with_filter(replace(whenever, created_from=start)).href(), False)


def _active_filters(address: Address) -> Iterator[ActiveFilter]:
    pairs = address.wanted.to_parameters()
    for pair in pairs:
        name, value = pair
        if name in _LABELS:
            rest = JobFilter.parse(other for other in pairs if other != pair)
            moment = moment_of(value) if name in ("from", "to") else None
            yield ActiveFilter(_LABELS[name], value, timestamp_or_none(moment), address.with_filter(rest).href())


def _fields(reader: Connection, scope: Scope) -> list[Field]:
    if scope.connection is None:
        return []
    number = scope.connection.number
    return [
        Field(name, _LABELS[name], texts_in_use(reader, number, kind, _SUGGESTIONS)) for name, kind in _KINDS.items()
    ]


def _column(label: str, by: SortBy | None, address: Address) -> Column:
    css_class = _CLASSES.get(label, "")
    if by is None:
        return Column(label, None, None, css_class)
    order = address.order
    first = SortOrder.ASC if by in _TEXTUAL else SortOrder.DESC
    direction = order.mirrored().direction if order.by is by else first
    current = ("descending" if order.is_descending else "ascending") if order.by is by else None
    return Column(label, address.with_order(by, direction).href(), current, css_class)


def _rows(reader: Connection, jobs: Sequence[Mapping[str, Any]], now: int) -> list[JobRow]:
    attempts = attempts_of(reader, [job["id"] for job in jobs])
    return [JobRow(job, attempts[job["id"]], last_run_of(job, attempts[job["id"]], now)) for job in jobs]
