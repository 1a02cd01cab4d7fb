"""``/jobs/{id}``: all that is known of one job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from sluice_agent.model import JobState
from sluice_agent.server.actions.ledger import Kind
from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.ability import Ability, ability_of
from sluice_agent.server.pages.last_run import LastRun, last_run_of
from sluice_agent.server.pages.raw_events import RawEvents, raw_events
from sluice_agent.server.pages.render import NO_STORE, Layout, render
from sluice_agent.server.pages.run_plot import RunPlot, run_plot
from sluice_agent.server.pages.scope import PageViewer, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.pages.state_counts import StateCounts, counts_of
from sluice_agent.server.pages.timeline import Timeline, timeline_of
from sluice_agent.server.pages.traceback_parts import TracebackPart, parts_of
from sluice_agent.server.pages.values import Value, ends_of, values_within
from sluice_agent.server.queries.canvas import (
    Branch,
    Member,
    States,
    branches_of,
    count_branch,
    count_canvas,
    find_members,
)
from sluice_agent.server.queries.connections import named_connections
from sluice_agent.server.queries.job_steps import JobSteps, Window
from sluice_agent.server.queries.recent_runs import recent_runs
from sluice_agent.server.queries.stored_job import JobHead, find_head
from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.record.record import Record, record_of_walk
from sluice_agent.server.record.summary import id_or_none
from sluice_agent.server.timestamps import moment_of, timestamp_of, to_moment

_MOST_STATES = 200
_PARTS = 3  # of the steps of a long job: those of the runs that are drawn, and of as many states
_SECOND = 1_000_000  # in microseconds
_MOST_EXTENSIONS = 100
_CAPTURED = 40_000  # characters of arguments and result together
_EXTENSIONS = 20_000  # characters of all other extensions


class StateRow(NamedTuple):
    """A state of the job, when it began, and how long it lasted; `skew_ms` is by how much the next one is reported to
    have begun before it, as clocks disagree."""

    state: str
    timestamp: str
    lasted_ms: float | None
    skew_ms: float | None


class Link(NamedTuple):
    """Another job: its id as a page has it, and the framework's."""

    id: str
    external_id: str


class Relatives(NamedTuple):
    """The place of a job in its canvas. Parent and root are None if there are none; a link is to a job that may have
    been removed, which is a member then only if it is known."""

    parent: Link | None
    parent_job: Member | None
    root: Link | None
    root_job: Member | None
    group_id: str | None
    group: StateCounts
    children: StateCounts
    canvas: int
    root_id: str

    @property
    def is_alone(self) -> bool:
        """True if the job neither was published by another one, nor has published one, nor is in a group."""
        return not (self.parent or self.root or self.group_id or self.children.total or self.canvas)


@dataclass(frozen=True, slots=True)
class JobView:
    """The page of a job."""

    job: Record
    last: LastRun
    time_format: str
    """The format of its times: exact if two of them are less than a second apart."""
    is_without_retry: bool
    """True if it has failed although further attempts were allowed."""
    timeline: Timeline
    window: Window
    """The states and the runs that are shown."""
    states: Sequence[StateRow]
    hidden_states: int
    traceback: Sequence[TracebackPart]
    captured: Sequence[Value]
    relatives: Relatives
    retry_of: Link | None
    retried_as: Link | None
    runs: RunPlot | None
    events: RawEvents
    action: str | None
    """What can be done with the job in its state: retry or revoke."""
    ability: Ability
    others: Sequence[Value]
    """Further extensions."""


def job_router(sources: Sources) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/jobs/{job:path}")
    def job(
        request: Request,
        principal: PageViewer,
        job: str,
        events: Annotated[int | None, Query(ge=1, le=1_000_000, description="A page of its raw events.")] = None,
        before: Annotated[int | None, Query(ge=1, le=2**31 - 1, description="Only the first so many states.")] = None,
    ) -> HTMLResponse:
        now = sources.now()
        with sources.store.reading() as reader:
            usable = {
                connection.id: connection.number
                for connection in named_connections(reader)
                if principal.may_use(connection.number)
            }
            head = find_head(reader, usable, job)
            if head is not None:
                scope = scope_of(reader, principal, UUID(head.connection_id))
                view = job_view(reader, head, ability_of(sources, reader, scope), to_moment(now), events, before)
        if head is None:
            raise RefusedError(404, _not_found(sources))
        layout = Layout("jobs", _title(view.job), now, scope, ("job",), view.job["id"])
        return render(request, "job.html", layout, view, headers=NO_STORE)

    return router


def job_view(
    reader: Connection,
    head: JobHead,
    ability: Ability,
    now: int,
    events: int | None = None,
    before: int | None = None,
) -> JobView:
    """Return the page of a job at the moment `now`, with the page `events` of its events; with the last of its states
    and runs, or of the first `before` states."""
    steps = JobSteps(reader, head, _PARTS)
    record, window = record_of_walk(steps.walked), steps.window(before)
    extensions = record["extensions"]
    states = _states(window)
    return JobView(
        job=record,
        last=last_run_of(record, record["attempt"], now),
        time_format=_time_format([record["createdAt"], record["startedAt"], record["completedAt"]]),
        is_without_retry=record["state"] == "failed" and record["attempt"] <= (record["maxRetries"] or 0),
        timeline=timeline_of(window.runs, steps.walked.summary, now),
        window=window,
        states=ends_of(states, _MOST_STATES),
        hidden_states=max(0, len(states) - _MOST_STATES),
        traceback=parts_of(record["stacktrace"]) if record["stacktrace"] else (),
        captured=_captured(record),
        relatives=_relatives(reader, head, record),
        retry_of=_link(head, extensions.get("retryOf")),
        retried_as=_link(head, extensions.get("retriedAs")),
        runs=run_plot(recent_runs(reader, head), record["id"]),
        events=raw_events(steps, events),
        action=next((kind.value for kind in Kind if JobState(record["state"]) in kind.states), None),
        ability=ability,
        others=_others(extensions),
    )


def _time_format(timestamps: Sequence[str | None]) -> str:
    known = [moment for timestamp in timestamps if (moment := moment_of(timestamp)) is not None]
    return "exact" if any(abs(after - before) < _SECOND for before, after in pairwise(known)) else "clock"


def _title(job: Record) -> str:
    return f"{job['name']} · {job['state']}"


def _not_found(sources: Sources) -> str:
    reaches_back = sources.store.reaches_back_to()
    if reaches_back is None:
        return "There is no job with this id: no job of this server has ended yet."
    return (
        "There is no job with this id. Jobs that have ended are removed by age and size: those that are left were "
        f"created since {reaches_back:%Y-%m-%d %H:%M} UTC."
    )


def _states(window: Window) -> list[StateRow]:
    rows: list[StateRow] = []
    following = [at for _, at in window.states[1:]]
    for (state, at), after in zip(window.states, [*following, None], strict=True):
        lasted = None if after is None else (after - at) / 1_000_000
        is_skewed = lasted is not None and lasted < 0
        rows.append(
            StateRow(
                state,
                timestamp_of(at // 1_000),
                None if is_skewed else lasted,
                -lasted if is_skewed and lasted is not None else None,
            )
        )
    return rows


def _captured(record: Record) -> list[Value]:
    extensions = record["extensions"]
    named = (("Arguments", "args"), ("Keyword arguments", "kwargs"), ("Result", "result"))
    return values_within([(label, extensions[name]) for label, name in named if name in extensions], _CAPTURED)


def _relatives(reader: Connection, head: JobHead, record: Record) -> Relatives:
    number, own_id = head.connection, record["externalId"]
    parent, root = _link(head, record["parentId"]), _link(head, record["rootId"])
    if root is not None and root.external_id == own_id:
        root = None
    known = find_members(reader, number, [UUID(link.id).bytes for link in (parent, root) if link is not None])
    group_id = id_or_none(record["extensions"].get("groupId"))
    children: States = States()
    for states in branches_of(reader, number, [head.uuid]).values():
        children.update(states)
    root_id = own_id if root is None else root.external_id
    return Relatives(
        parent,
        known.get(UUID(parent.id).bytes) if parent else None,
        root,
        known.get(UUID(root.id).bytes) if root else None,
        group_id,
        counts_of(count_branch(reader, number, Branch(None, group_id)) if group_id else States()),
        counts_of(children),
        count_canvas(reader, number, root_id).total(),
        root_id,
    )


def _link(head: JobHead, external_id: Any) -> Link | None:
    known = id_or_none(external_id)
    return None if known is None else Link(str(UUID(bytes=job_uuid(head.connection_id, known))), known)


_SHOWN_ELSEWHERE = frozenset(
    ("args", "kwargs", "result", "rootId", "parentId", "groupId", "retryOf", "retriedAs", "eta", "eventId")
)


def _others(extensions: Mapping[str, Any]) -> list[Value]:
    names = [name for name in sorted(extensions) if name not in _SHOWN_ELSEWHERE]
    return values_within([(name, extensions[name]) for name in names[:_MOST_EXTENSIONS]], _EXTENSIONS)
