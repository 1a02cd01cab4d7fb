"""Bulk actions in the database: what is to be done, and what has become of each job.

The id of a new job is committed before its message is sent. So after any end of the process it is known which jobs may
have been sent, and none of those is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.exc import IntegrityError

from sluice_agent.model import JobState
from sluice_agent.server.actions.retry import RETRIED, REVOKED
from sluice_agent.server.store import Store
from sluice_agent.server.store.action_tables import bulk_action, bulk_item
from sluice_agent.server.timestamps import timestamp_of, to_moment

_KEPT = timedelta(days=30)  # that a finished action is shown
_CHUNK = 1_000  # rows of one statement
_ERRORS = 20  # different reasons that are shown
_JOBS = 10  # jobs of each

IDS = "ids"
"""The key of the jobs of an action that has no filter, in place of one."""


class Kind(str, Enum):
    """What is done with the jobs."""

    RETRY = "retry"
    REVOKE = "revoke"

    @property
    def past(self) -> str:
        """The participle for messages."""
        return "retried" if self is Kind.RETRY else "revoked"

    @property
    def states(self) -> tuple[JobState, ...]:
        """The states of the jobs that it is for."""
        return RETRIED if self is Kind.RETRY else REVOKED


class ActionState(str, Enum):
    """The states of a bulk action."""

    COLLECTING = "collecting"
    """Its jobs are being selected; nothing has been done yet."""
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        """True if it is not finished."""
        return self in (ActionState.COLLECTING, ActionState.RUNNING)


class ItemState(str, Enum):
    """What has become of one job."""

    PENDING = "pending"
    SENDING = "sending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNCONFIRMED = "unconfirmed"
    """It is unknown whether the message was sent: the process or the connection ended meanwhile."""
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class BulkAction:
    """A bulk action.

    `wanted` is the filter as in the request, or ``{"ids": …}``, `connections` the numbers that it is limited to, and
    `waiting_for` why it could not go on.
    """

    id: str
    kind: Kind
    state: ActionState
    who: str
    connections: tuple[int, ...]
    wanted: dict[str, Any]
    again: bool
    waiting_for: str | None


@dataclass(frozen=True, slots=True)
class NewAction:
    """A bulk action that begins: of the jobs that the filter `wanted` selects, or of `jobs`, by Sluice's ids.

    `id` is a UUID. `connections` are the numbers of those whose jobs it may act on.
    """

    id: str
    kind: Kind
    who: str
    connections: Sequence[int]
    wanted: Mapping[str, Any]
    again: bool
    jobs: Sequence[bytes] | None = None

    @property
    def as_json(self) -> str:
        """Which jobs it is for: the filter, or ``{"ids": …}``."""
        if self.jobs is None:
            return json.dumps(self.wanted)
        return json.dumps({IDS: [str(UUID(bytes=job)) for job in self.jobs]})


@dataclass(frozen=True, slots=True)
class Item:
    """A job of an action."""

    number: int
    job: bytes
    task_id: str | None


_IS_OPEN = bulk_action.c.state.in_([state.value for state in ActionState if state.is_open])


class Ledger:
    """The bulk actions in the database of `store`; `now` is the clock of their times."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    def create(self, action: NewAction) -> bool:
        """Add an action. Return False if there is one with its id. Those that were finished long ago are removed."""
        oldest = to_moment(self._now() - _KEPT)
        state = ActionState.COLLECTING if action.jobs is None else ActionState.RUNNING
        with suppress(IntegrityError), self._store.writing() as connection:
            old = select(bulk_action.c.id).where(bulk_action.c.finished_at < oldest)
            connection.execute(bulk_item.delete().where(bulk_item.c.action.in_(old)))
            connection.execute(bulk_action.delete().where(bulk_action.c.finished_at < oldest))
            connection.execute(
                bulk_action.insert().values(
                    id=action.id,
                    kind=action.kind.value,
                    state=state.value,
                    who=action.who,
                    connections=json.dumps(list(action.connections)),
                    filter=action.as_json,
                    again=action.again,
                    created_at=to_moment(self._now()),
                )
            )
            _add_items(connection, action.id, action.jobs or ())
            return True
        return False

    def next_open(self, postponed: Collection[str] = ()) -> BulkAction | None:
        """Return the oldest action that is not finished, and not one of the ids `postponed`."""
        is_next = _IS_OPEN & bulk_action.c.id.not_in(postponed)
        query = select(bulk_action).where(is_next).order_by(bulk_action.c.created_at, bulk_action.c.id).limit(1)
        with self._store.reading() as reader:
            row = reader.execute(query).one_or_none()
        return _action(row) if row is not None else None

    def find(self, action_id: str) -> BulkAction | None:
        """Return an action."""
        with self._store.reading() as reader:
            row = reader.execute(select(bulk_action).where(bulk_action.c.id == action_id)).one_or_none()
        return _action(row) if row is not None else None

    def start(self, action_id: str, jobs: Sequence[bytes]) -> bool:
        """Add the jobs of an action, which runs then. Return False if it was cancelled meanwhile."""
        with self._store.writing() as connection:
            if not connection.execute(_moved(action_id, ActionState.COLLECTING, ActionState.RUNNING)).rowcount:
                return False
            _add_items(connection, action_id, jobs)
        return True

    def items(self, action_id: str, state: ItemState, limit: int) -> list[Item]:
        """Return the first jobs of an action that are in `state`."""
        query = (
            select(bulk_item.c.number, bulk_item.c.job, bulk_item.c.task_id)
            .where(bulk_item.c.action == action_id, bulk_item.c.state == state.value)
            .order_by(bulk_item.c.number)
            .limit(limit)
        )
        with self._store.reading() as reader:
            return [Item(row.number, bytes(row.job), row.task_id) for row in reader.execute(query)]

    def claim(self, action_id: str, number: int, task_id: str | None) -> bool:
        """Record that a job is about to be sent as `task_id`. Return False if it is not pending any more."""
        values = {"state": ItemState.SENDING.value, "task_id": task_id}
        with self._store.writing() as connection:
            return bool(connection.execute(_item(action_id, number, ItemState.PENDING).values(**values)).rowcount)

    def settle(self, action_id: str, number: int, state: ItemState, error: str | None = None) -> None:
        """Record what has become of a job that is not settled or cancelled yet."""
        unsettled = (ItemState.PENDING, ItemState.SENDING)
        with self._store.writing() as connection:
            connection.execute(_item(action_id, number, *unsettled).values(state=state.value, error=error))

    def wait(self, action_id: str, reason: str | None) -> None:
        """Record why an action that is not finished can't go on at present; None: it goes on."""
        with self._store.writing() as connection:
            is_one = (bulk_action.c.id == action_id) & _IS_OPEN
            connection.execute(update(bulk_action).where(is_one).values(waiting_for=reason))

    def finish(self, action_id: str) -> None:
        """Record that all jobs of a running action are done."""
        with self._store.writing() as connection:
            finished = _moved(action_id, ActionState.RUNNING, ActionState.COMPLETED)
            connection.execute(finished.values(finished_at=to_moment(self._now()), waiting_for=None))

    def cancel(self, action_id: str) -> bool:
        """End an action: jobs that are pending stay as they are. Return False if it was finished already."""
        ended = {"state": ActionState.CANCELLED.value, "finished_at": to_moment(self._now()), "waiting_for": None}
        pending = (bulk_item.c.action == action_id) & (bulk_item.c.state == ItemState.PENDING.value)
        with self._store.writing() as connection:
            cancelled = update(bulk_action).where(bulk_action.c.id == action_id, _IS_OPEN).values(**ended)
            if not connection.execute(cancelled).rowcount:
                return False
            connection.execute(update(bulk_item).where(pending).values(state=ItemState.CANCELLED.value))
        return True

    def progress(self, action_id: str) -> dict[str, Any] | None:
        """Return an action with its counts, as the API shows it; None if there is none."""
        states = select(bulk_item.c.state, func.count()).where(bulk_item.c.action == action_id)
        with self._store.reading() as reader:
            row = reader.execute(select(bulk_action).where(bulk_action.c.id == action_id)).one_or_none()
            if row is None:
                return None
            counts: dict[str, int] = dict(reader.execute(states.group_by(bulk_item.c.state)).tuples().all())
            errors = [
                {"error": error, "jobs": count, "examples": self._examples(reader, action_id, error)}
                for error, count in reader.execute(_errors_of(action_id))
            ]
        return {
            "id": row.id,
            "action": row.kind,
            "state": row.state,
            "by": row.who,
            "filter": json.loads(row.filter),
            "createdAt": timestamp_of(row.created_at),
            "finishedAt": timestamp_of(row.finished_at) if row.finished_at is not None else None,
            "waitingFor": row.waiting_for,
            "total": sum(counts.values()) if row.state != ActionState.COLLECTING.value else None,
            **{state.value: counts.get(state.value, 0) for state in ItemState},
            "errors": errors,
        }

    def _examples(self, reader: Any, action_id: str, error: str) -> list[str]:
        is_of = (bulk_item.c.action == action_id) & (bulk_item.c.error == error)
        query = select(bulk_item.c.job).where(is_of).order_by(bulk_item.c.number).limit(_JOBS)
        return [str(UUID(bytes=bytes(job))) for job in reader.scalars(query)]


def _add_items(connection: Connection, action_id: str, jobs: Sequence[bytes]) -> None:
    rows = [
        {"action": action_id, "number": number, "job": job, "state": ItemState.PENDING.value}
        for number, job in enumerate(jobs)
    ]
    for start in range(0, len(rows), _CHUNK):
        connection.execute(bulk_item.insert(), rows[start : start + _CHUNK])


def _moved(action_id: str, before: ActionState, after: ActionState) -> Any:
    is_before = (bulk_action.c.id == action_id) & (bulk_action.c.state == before.value)
    return update(bulk_action).where(is_before).values(state=after.value)


def _item(action_id: str, number: int, *states: ItemState) -> Any:
    is_item = (bulk_item.c.action == action_id) & (bulk_item.c.number == number)
    return update(bulk_item).where(is_item, bulk_item.c.state.in_([state.value for state in states]))


def _errors_of(action_id: str) -> Any:
    has_error = (bulk_item.c.action == action_id) & bulk_item.c.error.is_not(None)
    count = func.count()
    return (
        select(bulk_item.c.error, count)
        .where(has_error)
        .group_by(bulk_item.c.error)
        .order_by(count.desc())
        .limit(_ERRORS)
    )


def _action(row: Row[Any]) -> BulkAction:
    return BulkAction(
        row.id,
        Kind(row.kind),
        ActionState(row.state),
        row.who,
        tuple(json.loads(row.connections)),
        json.loads(row.filter),
        row.again,
        row.waiting_for,
    )
