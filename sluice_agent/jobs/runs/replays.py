"""Replays of the dead letters that match a filter, some at a time, by the engine.

What was replayed, the counts, and the place up to which runs were looked at change in one transaction: a replay goes on
after any end of a server, and no run is replayed twice. One that is a dead letter again has ended after its beginning.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from sluice_agent.jobs.definitions.jobs import Change, Job, find_job
from sluice_agent.jobs.runs.runs import find_run, replay_dead_letter
from sluice_agent.jobs.runs.search import RunFilter, count_all, search_runs
from sluice_agent.jobs.status import Status
from sluice_agent.jobs.store.ids import new_id
from sluice_agent.jobs.store.page import Page, PageRequest, Position, read_page
from sluice_agent.jobs.store.schema import is_replaying, replay
from sluice_agent.server.errors import RefusedError

MOST = 200
"""Dead letters that one transaction looks at: others write as well."""

_KEPT = 30 * 86_400 * 1_000_000  # microseconds after its end
_REASONS = 20  # that are kept, each with its number
_EXAMPLES = 5  # runs of each


class ReplayState(str, Enum):
    """The states of a replay."""

    RUNNING = "running"
    COMPLETED = "completed"
    CANCELED = "canceled"


class Refusals(NamedTuple):
    """A reason for which runs were not replayed, their number, and the ids of the first of them."""

    reason: str
    runs: int
    examples: Sequence[str]


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay of the dead letters that `wanted` selects: `total` when it began, of which `replayed` have begun again,
    and `refused` have not. Times are microseconds since 1970."""

    id: str
    state: ReplayState
    who: str | None
    wanted: RunFilter
    total: int
    replayed: int
    refused: int
    refusals: Sequence[Refusals]
    created_at: int
    finished_at: int | None


def begin_replay(writer: Connection, wanted: RunFilter, by: Change, id_: str | None = None) -> Replay:
    """Have all dead letters replayed that match `wanted` now, and return the replay; with `id_`, that which has this id
    already.

    Raises `IntegrityError` if another transaction has just begun it, and `RefusedError` (409) if the id is another's.
    """
    if id_ is not None:
        begun = writer.execute(_BY_ID, {"id": id_}).one_or_none()
        if begun is not None and begun.project_id != wanted.project:
            raise RefusedError(409, "The form was sent for another project: open its page again.")
        if begun is not None:
            return _replay(begun)
    writer.execute(_FORGET, {"before": by.moment - _KEPT})
    selected = replace(wanted, statuses=(Status.DEAD_LETTER,), ended_before=by.moment)
    total = count_all(writer, selected)
    values = {
        "id": id_ or new_id(by.moment),
        "project_id": wanted.project,
        "state": (ReplayState.RUNNING if total else ReplayState.COMPLETED).value,
        "who": by.author,
        "filter": json.dumps({name: value for name, value in asdict(wanted).items() if name in _FILTERS}),
        "ended_before": by.moment,
        "total": total,
        "replayed": 0,
        "refused": 0,
        "refusals": "[]",
        "created_at": by.moment,
        "finished_at": None if total else by.moment,
    }
    (row,) = writer.execute(_INSERT, values)
    return _replay(row)


def find_replay(reader: Connection, id_: str, project: str | None) -> Replay:
    """Return a replay. Raises `RefusedError` (404) if there is none, or if it is not of the `project` that is
    demanded."""
    row = reader.execute(_BY_ID, {"id": id_}).one_or_none()
    if row is None or project not in (None, row.project_id):
        raise RefusedError(404, "Replay not found.")
    return _replay(row)


def list_replays(reader: Connection, project: str, wanted: PageRequest) -> Page[Replay]:
    """Return a page of the replays of a project, the newest first."""
    query = select(replay).where(replay.c.project_id == project)
    return read_page(reader, query, (replay.c.created_at, replay.c.id), wanted, _replay)


def has_turn(reader: Connection, of: Replay) -> bool:
    """Return whether no earlier replay goes on, of any project."""
    return not reader.scalar(select(_EARLIER), {"moment": of.created_at})


def cancel_replay(writer: Connection, id_: str, project: str | None, now: int) -> Replay:
    """End a replay: what it has not come to stays a dead letter. Raises `RefusedError`: 404 as `find_replay`, 409 if it
    has ended."""
    find_replay(writer, id_, project)
    ended = {"state": ReplayState.CANCELED.value, "finished_at": now}
    row = writer.execute(_CHANGE.where(is_replaying).values(ended), {"of": id_}).one_or_none()
    if row is None:
        raise RefusedError(409, "The replay has ended.")
    return _replay(row)


def go_on(writer: Connection, now: int) -> None:
    """Replay some dead letters of the oldest replay that no other transaction is at."""
    row = writer.execute(_NEXT).one_or_none()
    if row is None:
        return
    wanted = replace(_filter(row), statuses=(Status.DEAD_LETTER,), ended_before=row.ended_before)
    after = None if row.after_id is None else Position(row.after_created_at, row.after_id)
    page = search_runs(writer, wanted, PageRequest(MOST, after))
    replayed, refused = 0, list[tuple[str, str]]()
    jobs: dict[str, Job] = {}
    for found in sorted(page.items, key=lambda item: item.id):  # in the order in which others lock runs
        try:
            dead = find_run(writer, found.id, None, locks=True)
            if dead.finished_at is None or dead.finished_at >= row.ended_before:
                continue  # it was replayed by another request, and may be a dead letter again
            job = jobs[dead.job_id] = jobs.get(dead.job_id) or find_job(writer, dead.job_id, None)
            replay_dead_letter(writer, job, dead, now)
            replayed += 1
        except RefusedError as refusal:
            refused.append((found.id, refusal.message))
    values: dict[str, Any] = {
        "replayed": row.replayed + replayed,
        "refused": row.refused + len(refused),
        "refusals": json.dumps(_added(json.loads(row.refusals), refused)),
    }
    if page.next is None:
        values |= {"state": ReplayState.COMPLETED.value, "finished_at": now}
    else:
        values |= {"after_created_at": page.next.value, "after_id": page.next.id}
    writer.execute(_CHANGE.values(values), {"of": row.id})


_FILTERS = ("project", "job_id", "created_from", "created_before", "batch_id", "error_class", "text", "ids")


def _filter(row: Row[Any]) -> RunFilter:
    return RunFilter(**json.loads(row.filter))


def _added(refusals: list[Any], refused: Sequence[tuple[str, str]]) -> list[Any]:
    """Return the refusals of a replay, each ``[reason, number, ids]``, with further ones."""
    by_reason = {reason: (number, ids) for reason, number, ids in refusals}
    for id_, reason in refused:
        if reason not in by_reason and len(by_reason) >= _REASONS:
            continue
        number, ids = by_reason.get(reason, (0, []))
        by_reason[reason] = number + 1, ids if len(ids) >= _EXAMPLES else [*ids, id_]
    return [[reason, number, ids] for reason, (number, ids) in by_reason.items()]


def _replay(row: Row[Any]) -> Replay:
    return Replay(
        row.id,
        ReplayState(row.state),
        row.who,
        _filter(row),
        row.total,
        row.replayed,
        row.refused,
        [Refusals(*refusal) for refusal in json.loads(row.refusals)],
        row.created_at,
        row.finished_at,
    )


_BY_ID = select(replay).where(replay.c.id == bindparam("id"))
HAS_REPLAY = select(replay.c.id).where(is_replaying).exists()
"""Whether a replay goes on."""

_EARLIER = select(replay.c.id).where(is_replaying, replay.c.created_at < bindparam("moment")).exists()
_NEXT = select(replay).where(is_replaying).order_by(replay.c.created_at).limit(1).with_for_update(skip_locked=True)
_CHANGE = update(replay).where(replay.c.id == bindparam("of")).returning(replay)
_INSERT = insert(replay).returning(replay)
_FORGET = delete(replay).where(replay.c.finished_at < bindparam("before"))
