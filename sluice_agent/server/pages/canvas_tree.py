"""The rows of a canvas: its tree, in the order in which a page shows it, with large branches folded.

What failed is unfolded first. A job's only child follows it at the same depth, as the steps of a chain do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from sluice_agent.model import JobState
from sluice_agent.server.pages.render import Parameters
from sluice_agent.server.pages.state_counts import StateCounts, counts_of
from sluice_agent.server.queries.canvas import (
    Branch,
    Member,
    States,
    all_members,
    ancestors_of,
    branches_of,
    failed_members,
    followed_members,
    members_of,
)

MOST_JOBS = 200
"""Jobs of a tree that are shown; more only if more have failed, or lead to what failed."""

SMALL = 10
"""Jobs of a branch up to which all are shown."""

_MOST_LEVELS = 100
_MOST_FAILED = 25  # jobs that are unfolded because they failed
_FIRST = 5  # members that are shown of a large branch
_FOLLOWED = 3  # members that are shown of a large branch because they have published jobs
_DEEPEST = 8  # the depth from which all rows are shown alike
_NARROWEST = 0.8  # percent


class Bar(NamedTuple):
    """When a job waited and ran, in percent of the time that the shown jobs took."""

    wait_x: float
    wait_width: float
    run_x: float
    run_width: float
    state: str


class Row(NamedTuple):
    """A row: a job, or a branch of jobs with their states, or those of a branch that are not shown.

    `hidden` counts the children of a job that are not shown.
    """

    depth: int
    member: Member | None = None
    bar: Bar | None = None
    hidden: int = 0
    branch: Branch | None = None
    counts: StateCounts | None = None
    others: int = 0
    is_step: bool = False

    @property
    def address(self) -> Parameters:
        """The parameters of the page that lists the members of the branch."""
        return {} if self.branch is None else branch_address(self.branch)


def branch_address(branch: Branch) -> dict[str, str | None]:
    """Return the parameters of the page that lists the members of a branch."""
    return {
        "groupId": branch.group_id,
        "parentId": None if branch.parent is None else str(UUID(bytes=branch.parent)),
    }


@dataclass(slots=True)
class _Loaded:
    """What is read of a canvas: the branches of jobs, and the members that are shown of each."""

    branches: dict[bytes, dict[Branch, States]] = field(default_factory=dict)
    members: dict[Branch, list[Member]] = field(default_factory=dict)

    @property
    def shown(self) -> int:
        return sum(map(len, self.members.values()))


@dataclass(frozen=True, slots=True)
class Tree:
    """The rows, the number of jobs in them, the time from the first to the last moment of these, and whether all jobs
    below the top are among them."""

    rows: Sequence[Row]
    jobs: int
    milliseconds: float
    is_whole: bool


def read_tree(reader: Connection, connection: int, root_id: str, top: Sequence[Member], now: int) -> Tree:
    """Read the tree below the jobs `top`, of the canvas whose root is `root_id`."""
    failed = failed_members(reader, connection, root_id, _MOST_FAILED)
    unfolded = {member.uuid: member for member in failed} | ancestors_of(reader, connection, failed)
    loaded = _load(reader, connection, top, unfolded)
    members = [*top, *(member for branch in loaded.members.values() for member in branch)]
    times = _Times(members, now)
    rows = [row for member in top for row in _rows_of(member, loaded, times, 0, is_step=False)]
    hidden = sum(row.hidden + row.others for row in rows)
    return Tree(rows, len(members), times.milliseconds, hidden == 0)


def member_rows(members: Sequence[Member], children: Mapping[bytes, int], now: int) -> list[Row]:
    """Return the rows of a page of members, each with the number of its children."""
    times = _Times(members, now)
    return [Row(0, member=member, bar=times.bar(member), hidden=children.get(member.uuid, 0)) for member in members]


def _load(reader: Connection, connection: int, top: Sequence[Member], unfolded: Mapping[bytes, Member]) -> _Loaded:
    loaded = _Loaded()
    level: list[Member] = list(top)
    at_top = {member.uuid for member in top}
    for number in range(_MOST_LEVELS):
        if not level:
            break
        found = _below(top, branches_of(reader, connection, [member.uuid for member in level]))
        for branch, states in found.items():
            loaded.branches.setdefault(branch.parent or b"", {})[branch] = states
        if number == _MOST_LEVELS - 1:  # what is below is counted only
            break
        read = _members_of_level(reader, connection, found, unfolded, MOST_JOBS - loaded.shown)
        level = []
        for branch, members in read.items():
            loaded.members[branch] = [member for member in members if member.uuid not in at_top]
            level += loaded.members[branch]
    return loaded


def _below(top: Sequence[Member], found: Mapping[Branch, States]) -> dict[Branch, States]:
    """Return branches without the jobs at the top: a client may name a job as the parent of its own ancestor.

    As a job has one parent, only a job at the top could be reached twice.
    """
    counted = dict(found)
    for member in top:
        branch = Branch(member.parent, member.group_id)
        if branch in counted:
            counted[branch] = counted[branch] - States([member.state])
    return {branch: states for branch, states in counted.items() if states}


def _members_of_level(
    reader: Connection,
    connection: int,
    found: Mapping[Branch, States],
    unfolded: Mapping[bytes, Member],
    room: int,
) -> dict[Branch, list[Member]]:
    """Return the members that are shown of the branches `found`; where there is no room, those that are unfolded."""
    wanted: dict[Branch, list[Member]] = {}
    for member in unfolded.values():
        wanted.setdefault(Branch(member.parent, member.group_id), []).append(member)
    chosen: list[Branch] = []
    members: dict[Branch, list[Member]] = {}
    for branch, states in sorted(found.items(), key=lambda item: (item[0] not in wanted, item[1].total())):
        size = states.total()
        if size <= SMALL and size <= room:
            chosen.append(branch)
            room -= size
        elif room > 0 and size > SMALL:
            first = members_of(reader, connection, branch, states, _FIRST)
            followed = followed_members(reader, connection, branch, states, _FOLLOWED)
            members[branch] = _distinct([*wanted.get(branch, ()), *first, *followed])
            room -= len(members[branch])
        elif branch in wanted:
            members[branch] = wanted[branch]
    return members | all_members(reader, connection, chosen)


def _distinct(members: Iterable[Member]) -> list[Member]:
    return list({member.uuid: member for member in members}.values())


def _rows_of(member: Member, loaded: _Loaded, times: _Times, depth: int, *, is_step: bool) -> Iterator[Row]:
    """Yield the row of a job, and those below it: in a loop along a chain, whatever its length."""
    while True:
        branches = loaded.branches.get(member.uuid, {})
        hidden = sum(states.total() for branch, states in branches.items() if branch not in loaded.members)
        yield Row(min(depth, _DEEPEST), member=member, bar=times.bar(member), hidden=hidden, is_step=is_step)
        shown = {branch: states for branch, states in branches.items() if branch in loaded.members}
        following = _only_child(shown, loaded) if not hidden else None
        if following is None:
            break
        member, is_step = following, True
    for branch, states in sorted(shown.items(), key=lambda item: (item[0].group_id is not None, item[1].total())):
        yield from _rows_of_branch(branch, states, loaded, times, depth + 1)


def _rows_of_branch(branch: Branch, states: States, loaded: _Loaded, times: _Times, depth: int) -> Iterator[Row]:
    members = loaded.members[branch]
    others = states.total() - len(members)
    if branch.group_id is not None or others:
        yield Row(min(depth, _DEEPEST), branch=branch, counts=counts_of(states))
        depth += 1
    for child in members:
        yield from _rows_of(child, loaded, times, depth, is_step=False)
    if others > 0:
        yield Row(min(depth, _DEEPEST), branch=branch, others=others)


def _only_child(branches: Mapping[Branch, States], loaded: _Loaded) -> Member | None:
    """Return the child of a job that has one, and is in no group."""
    if len(branches) != 1:
        return None
    ((branch, states),) = branches.items()
    members = loaded.members[branch]
    return members[0] if branch.group_id is None and states.total() == 1 and members else None


class _Times:
    """The time that some jobs took together, and the bar of each in it."""

    def __init__(self, members: Collection[Member], now: int) -> None:
        self._now = now
        self._start = min((member.created_at for member in members), default=now)
        self._length = max(1, max((self._end(member) for member in members), default=now) - self._start)

    @property
    def milliseconds(self) -> float:
        """The length of that time."""
        return self._length / 1_000

    def bar(self, member: Member) -> Bar:
        """Return the bar of a job."""
        end = self._end(member)
        started = end if member.started_at is None else min(max(member.started_at, member.created_at), end)
        wait_x, run_x = self._x(member.created_at), self._x(started)
        run_width = 0.0 if member.started_at is None else max(_NARROWEST, self._x(end) - run_x)
        run_x = min(run_x, 100 - run_width)
        return Bar(
            round(wait_x, 2), round(max(0, run_x - wait_x), 2), round(run_x, 2), round(run_width, 2), member.state.value
        )

    def _end(self, member: Member) -> int:
        if member.completed_at is not None:
            return max(member.completed_at, member.created_at)
        is_going_on = member.state not in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
        return max(self._now if is_going_on else member.changed_at, member.created_at)

    def _x(self, moment: int) -> float:
        return 100 * (moment - self._start) / self._length
