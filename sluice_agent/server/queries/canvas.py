"""Canvases: the jobs that one job has published, directly and through others, as a tree.

A job's parent is the one that published it. The children of one parent that a group holds together are one branch, the
others are one too. Branches may have any size: they are counted from an index, and members are read as they are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, exists, func, select

from sluice_agent.model import JobState
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.record.ids import job_uuid
from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.schema import job

MOST_ANCESTORS = 50
"""Jobs that are followed upwards from one."""

MOST_SEARCHED = 5_000
"""Jobs of a branch that are all looked at for what followed them."""

STATE_ORDER = (
    JobState.FAILED,
    JobState.RETRYING,
    JobState.ACTIVE,
    JobState.UNKNOWN,
    JobState.QUEUED,
    JobState.SCHEDULED,
    JobState.CANCELLED,
    JobState.COMPLETED,
)
"""The order in which members are listed: what needs attention first."""

_LATEST = 20  # jobs in each state that are looked at in a larger branch
_COLUMNS = (
    job.c.number, job.c.uuid, job.c.external_id, job.c.name, job.c.worker, job.c.state, job.c.attempt, job.c.created_at,
    job.c.started_at, job.c.completed_at, job.c.duration_ms, job.c.error, job.c.root_id, job.c.group_id,
    job.c.parent, job.c.changed_at,
)  # fmt: skip

States = Counter[JobState]
"""The number of jobs in each state."""


class Branch(NamedTuple):
    """What one branch of a canvas is: the children of a job that are in one group, or in none; or, without a parent, a
    group that was published from outside any job."""

    parent: bytes | None
    group_id: str | None


class Member(NamedTuple):
    """A job of a canvas. Times are microseconds since 1970; `root_id` is None if it is its own root."""

    number: int
    uuid: bytes
    external_id: str
    name: str
    worker: str | None
    state: JobState
    attempt: int
    created_at: int
    started_at: int | None
    completed_at: int | None
    duration_ms: int | None
    error: str | None
    root_id: str | None
    group_id: str | None
    parent: bytes | None
    changed_at: int

    @property
    def id(self) -> str:
        """Sluice's id."""
        return str(UUID(bytes=self.uuid))


def find_members(reader: Connection, connection: int, uuids: Collection[bytes]) -> dict[bytes, Member]:
    """Return those jobs of `connection` that exist, by their ids."""
    statement = select(*_COLUMNS).where(job.c.uuid.in_(uuids), job.c.connection == connection)
    return {member.uuid: member for member in _members(reader, reader.execute(statement).all())}


def count_canvas(reader: Connection, connection: int, root_id: str) -> States:
    """Return the states of the jobs whose root is `root_id`, without the root itself."""
    return _count(reader, job.c.connection == connection, job.c.root_id == root_id)


def count_branch(reader: Connection, connection: int, branch: Branch) -> States:
    """Return the states of the jobs of a branch."""
    return _count(reader, *_conditions(connection, branch))


def branches_of(reader: Connection, connection: int, parents: Collection[bytes]) -> dict[Branch, States]:
    """Return the branches of those jobs that have any, with the states of their jobs."""
    statement = (
        select(job.c.parent, job.c.group_id, job.c.state, func.count())
        .where(job.c.connection == connection, job.c.parent.in_(parents))
        .group_by(job.c.parent, job.c.group_id, job.c.state)
    )
    branches: dict[Branch, States] = {}
    for parent, group_id, state, count in reader.execute(statement):
        branches.setdefault(Branch(parent, group_id), Counter())[JOB_STATES[state]] = count
    return branches


def members_of(
    reader: Connection, connection: int, branch: Branch, states: Mapping[JobState, int], limit: int, offset: int = 0
) -> list[Member]:
    """Return at most `limit` jobs of a branch, after `offset` others, in `STATE_ORDER`. `states` counts all."""
    rows: list[Row[Any]] = []
    order = job.c.changed_at if branch.parent is not None else job.c.created_at
    for state in STATE_ORDER:
        count = states.get(state, 0)
        if offset < count and len(rows) < limit:
            statement = select(*_COLUMNS).where(*_conditions(connection, branch), _is_in(state))
            statement = statement.order_by(order, job.c.number)
            rows += reader.execute(statement.limit(limit - len(rows)).offset(offset))
        offset = max(0, offset - count)
    return _members(reader, rows)


def all_members(reader: Connection, connection: int, branches: Collection[Branch]) -> dict[Branch, list[Member]]:
    """Return all jobs of small branches that have a parent, in the order in which they were created."""
    found: dict[Branch, list[Member]] = {branch: [] for branch in branches}
    groups = {branch.group_id for branch in branches if branch.group_id is not None}
    for condition, chosen in (
        (job.c.group_id.is_(None), [branch for branch in branches if branch.group_id is None]),
        (job.c.group_id.in_(groups), [branch for branch in branches if branch.group_id is not None]),
    ):
        parents = {branch.parent for branch in chosen}
        statement = select(*_COLUMNS).where(job.c.connection == connection, job.c.parent.in_(parents), condition)
        rows = reader.execute(statement.order_by(job.c.created_at, job.c.number)).all() if chosen else ()
        for member in _members(reader, rows):
            found.get(Branch(member.parent, member.group_id), []).append(member)
    return found


def failed_members(reader: Connection, connection: int, root_id: str, limit: int) -> list[Member]:
    """Return the first failed jobs whose root is `root_id`."""
    statement = (
        select(*_COLUMNS)
        .where(job.c.connection == connection, job.c.root_id == root_id, _is_in(JobState.FAILED))
        .order_by(job.c.created_at)
        .limit(limit)
    )
    return _members(reader, reader.execute(statement).all())


def followed_members(reader: Connection, connection: int, branch: Branch, states: States, limit: int) -> list[Member]:
    """Return jobs of a branch that have published others, as the last member of a chord publishes its body.

    Of a branch of more than `MOST_SEARCHED` jobs only the last to change are looked at.
    """
    child = job.alias()
    has_child = exists().where(child.c.connection == connection, child.c.parent == job.c.uuid)
    conditions = _conditions(connection, branch)
    if states.total() <= MOST_SEARCHED:
        statement = select(*_COLUMNS).where(*conditions, has_child)
        return _members(reader, reader.execute(statement.order_by(job.c.changed_at.desc()).limit(limit)).all())
    rows: list[Row[Any]] = []
    for state in states:
        latest = (
            select(job.c.number)
            .where(*conditions, _is_in(state))
            .order_by(job.c.changed_at.desc())
            .limit(_LATEST)
            .scalar_subquery()
        )
        rows += reader.execute(select(*_COLUMNS).where(job.c.number.in_(latest), has_child).limit(limit))
    return _members(reader, sorted(rows, key=lambda row: row.changed_at, reverse=True)[:limit])


def ancestors_of(reader: Connection, connection: int, members: Iterable[Member]) -> dict[bytes, Member]:
    """Return the known ancestors of `members` by their ids, the nearest `MOST_ANCESTORS` of each."""
    known: dict[bytes, Member] = {}
    wanted = {member.parent for member in members if member.parent is not None}
    for _ in range(MOST_ANCESTORS):
        found = find_members(reader, connection, wanted - set(known)) if wanted - set(known) else {}
        if not found:
            break
        known |= found
        wanted = {member.parent for member in found.values() if member.parent is not None}
    return known


def root_uuid(connection_id: str, root_id: str) -> bytes:
    """Return the id of the root job of a canvas."""
    return job_uuid(connection_id, root_id)


def _count(reader: Connection, *conditions: ColumnElement[bool]) -> States:
    statement = select(job.c.state, func.count()).where(*conditions).group_by(job.c.state)
    return Counter({JOB_STATES[state]: count for state, count in reader.execute(statement)})


def _conditions(connection: int, branch: Branch) -> Sequence[ColumnElement[bool]]:
    conditions = [job.c.connection == connection]
    if branch.parent is not None:
        conditions.append(job.c.parent == branch.parent)
    conditions.append(job.c.group_id.is_(None) if branch.group_id is None else job.c.group_id == branch.group_id)
    return conditions


def _is_in(state: JobState) -> ColumnElement[bool]:
    return job.c.state == JOB_STATES.index(state)


def _members(reader: Connection, rows: Sequence[Row[Any]]) -> list[Member]:
    texts = texts_of(reader, (number for row in rows for number in (row.name, row.worker)))
    shown = (
        {**row._mapping, "name": texts[row.name], "worker": texts.get(row.worker), "state": JOB_STATES[row.state]}
        for row in rows
    )
    return [Member(**values) for values in shown]
