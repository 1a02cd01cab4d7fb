"""``/canvas``: the jobs that belong together, as a tree below their root, or as the members of one branch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from sluice_agent.server.errors import RefusedError
from sluice_agent.server.pages.canvas_tree import SMALL, Row, Tree, branch_address, member_rows, read_tree
from sluice_agent.server.pages.formats import number
from sluice_agent.server.pages.parameters import Label
from sluice_agent.server.pages.render import Layout, Parameters, render
from sluice_agent.server.pages.scope import ConnectionId, PageViewer, Scope, scope_of
from sluice_agent.server.pages.sources import Sources
from sluice_agent.server.pages.state_counts import StateCounts, counts_of
from sluice_agent.server.queries.canvas import (
    Branch,
    Member,
    States,
    all_members,
    branches_of,
    count_branch,
    count_canvas,
    find_members,
    followed_members,
    members_of,
)
from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.store.named_connection import NamedConnection
from sluice_agent.server.timestamps import to_moment

PAGE = 100
"""Members of a branch on a page."""

_MOST_TOP = 10  # jobs that are shown at the top if their root is not here
_FOLLOWED = 5  # members of a branch that are looked at for what followed it
_MOST_FOLLOWING = 20


@dataclass(frozen=True, slots=True)
class TreeView:
    """A canvas as a tree. `root` is None if that job is not here; `start` is the job from which the tree is shown, if
    it is another one; `group` counts the jobs of the group to which the root itself belongs."""

    root_id: str
    root: Member | None
    start: Member | None
    counts: StateCounts
    group: StateCounts
    tree: Tree
    unreached: int


@dataclass(frozen=True, slots=True)
class BranchView:
    """A page of the members of a branch. `parent` is the job that published them, if it is known; `following` are jobs
    that its members published; `newer` and `older` are the parameters of the pages beside this one."""

    branch: Branch
    parent: Member | None
    counts: StateCounts
    rows: Sequence[Row]
    first: int
    following: Sequence[Row]
    newer: Parameters | None
    older: Parameters | None


def canvas_router(sources: Sources) -> APIRouter:
    """Return the route of the page."""
    router = APIRouter()

    @router.get("/canvas")
    def canvas(
        request: Request,
        principal: PageViewer,
        root_id: Annotated[Label | None, Query(alias="rootId")] = None,
        group_id: Annotated[Label | None, Query(alias="groupId")] = None,
        parent_id: Annotated[UUID | None, Query(alias="parentId")] = None,
        start: Annotated[UUID | None, Query(alias="from")] = None,
        page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
        connection_id: ConnectionId = None,
    ) -> HTMLResponse:
        now = sources.now()
        with sources.store.reading() as reader:
            scope = scope_of(reader, principal, connection_id)
            connection = _connection_of(reader, scope, root_id) if connection_id is None else scope.connection
            scope = Scope(scope.principal, scope.connections, connection)
            if connection is None:
                raise RefusedError(404, "There is no canvas yet: no event has arrived at this server.")
            if root_id is not None:
                tree = tree_view(reader, connection, root_id, start, to_moment(now))
                layout = Layout("jobs", _tree_title(tree), now, scope, ("job",))
                return render(request, "canvas.html", layout, tree)
            if group_id is None and parent_id is None:
                raise RefusedError(400, "The address needs rootId, the id of the job at the root of the canvas.")
            branch = Branch(None if parent_id is None else parent_id.bytes, group_id)
            view = branch_view(reader, connection.number, branch, page, to_moment(now))
        layout = Layout("jobs", f"Members · {number(view.counts.total)}", now, scope, ("job",))
        return render(request, "canvas_branch.html", layout, view)

    return router


def tree_view(reader: Connection, connection: NamedConnection, root_id: str, start: UUID | None, now: int) -> TreeView:
    """Return the tree of a canvas. Raises `RefusedError` (404) if no job of it is here."""
    uuid = job_uuid(connection.id, root_id)
    known = find_members(reader, connection.number, [uuid, *([start.bytes] if start else [])])
    root, first = known.get(uuid), known.get(start.bytes) if start else None
    states = count_canvas(reader, connection.number, root_id)
    if root is None and not states:
        raise RefusedError(404, "No job with this root is here: it was removed by age and size, or never reported.")
    top = [first] if first else [root] if root else _top_without_root(reader, connection.number, uuid)
    tree = read_tree(reader, connection.number, root_id, top, now)
    every = states + States([root.state] if root else [])
    group = States()
    if root is not None and root.group_id is not None and root.parent is None:
        group = count_branch(reader, connection.number, Branch(None, root.group_id))
    return TreeView(
        root_id,
        root,
        first,
        counts_of(every),
        counts_of(group),
        tree,
        every.total() - tree.jobs if tree.is_whole and first is None else 0,
    )


def branch_view(reader: Connection, connection: int, branch: Branch, page: int, now: int) -> BranchView:
    """Return a page of the members of a branch. Raises `RefusedError` (404) if it has none."""
    states = count_branch(reader, connection, branch)
    if not states:
        raise RefusedError(404, "This group has no job here: they were removed by age and size, or never reported.")
    offset = (page - 1) * PAGE
    members = members_of(reader, connection, branch, states, PAGE, offset)
    followed = followed_members(reader, connection, branch, states, _FOLLOWED) if page == 1 else []
    branches = branches_of(reader, connection, [member.uuid for member in (*members, *followed)])
    children: Counter[bytes] = Counter()
    for found, counted in branches.items():
        children[found.parent or b""] += counted.total()
    parents = {member.uuid for member in followed}
    small = [found for found, counted in branches.items() if found.parent in parents and counted.total() <= SMALL]
    following = [member for found in all_members(reader, connection, small).values() for member in found]
    parent = find_members(reader, connection, [branch.parent]).get(branch.parent) if branch.parent else None
    address = branch_address(branch)
    return BranchView(
        branch,
        parent,
        counts_of(states),
        member_rows(members, children, now),
        offset + 1,
        member_rows(following[:_MOST_FOLLOWING], {}, now),
        {**address, "page": page - 1} if page > 1 else None,
        {**address, "page": page + 1} if offset + PAGE < states.total() else None,
    )


def _connection_of(reader: Connection, scope: Scope, root_id: str | None) -> NamedConnection | None:
    """Return the connection that has the root, or else the one that the page would show anyway."""
    if root_id is not None and scope.is_ambiguous:
        for connection in scope.connections:
            if find_members(reader, connection.number, [job_uuid(connection.id, root_id)]):
                return connection
    return scope.connection


def _top_without_root(reader: Connection, connection: int, root: bytes) -> list[Member]:
    """Return the first children of a root that is not here."""
    branches = branches_of(reader, connection, [root])
    members = (
        member
        for branch, states in branches.items()
        for member in members_of(reader, connection, branch, states, _MOST_TOP)
    )
    return list(islice(members, _MOST_TOP))


def _tree_title(view: TreeView) -> str:
    failed = dict(view.counts.states).get("failed", 0)
    text = f"{number(failed)} failed of {number(view.counts.total)}" if failed else number(view.counts.total)
    return f"Canvas · {text}"
