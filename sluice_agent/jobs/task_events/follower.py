"""Follows the events of Celery tasks that are jobs, by the frames of each connection.

Which tasks have changed is found in the frames; what has become of them is read from their events, as they are now. So
frames that are gone, or that are read again, do no harm: then all tasks under way are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from sqlalchemy import Connection, bindparam, delete, insert, select

from sluice_agent.jobs.store.schema import event_cursor, is_open_task, run
from sluice_agent.jobs.store.store import JobsStore
from sluice_agent.jobs.task_events.outcomes import apply_report
from sluice_agent.jobs.task_events.reports import TaskReport, read_reports
from sluice_agent.server.record.frames import JOB_STATE_CHANGE
from sluice_agent.server.record.ids import job_id, job_uuid
from sluice_agent.server.store import Store
from sluice_agent.server.store.schema import connection
from sluice_agent.server.stream.replay import read_frames

_PAGE = 1_000  # frames of a connection that are read at a time
_MOST_TASKS = 200  # that one transaction changes: others write as well
_UNSTORED = 5_000  # frames without a task of ours, after which the cursor is stored nonetheless
_BEGINNING = '{"id":"'
_ID = slice(len(_BEGINNING), len(_BEGINNING) + 36)

OpenTasks = Mapping[str, str]
"""The runs of the tasks that are under way, by the ids of the tasks."""


def open_tasks(reader: Connection) -> OpenTasks:
    """Return the tasks under way."""
    return {row.task_id: row.id for row in reader.execute(_OPEN)}


def held_jobs(store: JobsStore, connection_ids: Mapping[str, int]) -> set[bytes]:
    """Return Sluice's ids of the tasks under way: their events must not be deleted before their outcome is known."""
    with store.reading() as reader:
        tasks = open_tasks(reader)
    return {_uuid(connection_id, task_id) for task_id in tasks for connection_id in connection_ids}


class Follower:
    """Brings the outcomes of tasks from `events` into `store`. `chance` returns a random number from 0 to 1."""

    def __init__(self, store: JobsStore, events: Store, chance: Callable[[], float]) -> None:
        self._store = store
        self._events = events
        self._chance = chance
        self._seen: dict[str, int] = {}
        self._stored: dict[str, int] = {}

    def forget(self) -> None:
        """Go on from the stored cursors: another process may have followed since."""
        self._seen, self._stored = {}, {}

    def follow(self, now: int) -> bool:
        """Let new events change runs, and return whether there are more of them."""
        with self._store.reading() as reader:
            tasks = open_tasks(reader)
            if not tasks:
                return False
            if not self._stored:
                self._stored = {row.connection: row.position for row in reader.execute(_CURSORS)}
                self._seen = dict(self._stored)
        reports, seen, has_more = self._read(tasks)
        is_late = any(position - self._stored.get(id_, 0) >= _UNSTORED for id_, position in seen.items())
        if reports or is_late:
            with self._store.writing() as writer:
                for task_id, report in reports.items():
                    apply_report(writer, tasks[task_id], task_id, report, now, self._chance)
                _store_cursors(writer, seen)
            self._stored = self._stored | seen
        self._seen = self._seen | seen
        return has_more

    def _read(self, tasks: OpenTasks) -> tuple[dict[str, TaskReport], dict[str, int], bool]:
        """Return what is new of tasks, up to which positions that is, and whether there is more."""
        changed: dict[bytes, str] = {}
        seen: dict[str, int] = {}
        has_more = False
        with self._events.reading() as reader:
            for row in reader.execute(_POSITIONS):
                before = self._seen.get(row.id)
                if before is not None and row.position <= before:
                    continue
                if len(changed) >= _MOST_TASKS:
                    has_more = True
                    break
                found, seen[row.id] = _changed_tasks(reader, row.number, row.id, before, row.position, tasks)
                changed.update(found)
                has_more = has_more or seen[row.id] < row.position
            reports = read_reports(reader, changed)
        return {changed[uuid]: report for uuid, report in reports.items()}, seen, has_more


def _changed_tasks(
    reader: Connection, number: int, connection_id: str, after: int | None, last: int, tasks: OpenTasks
) -> tuple[dict[bytes, str], int]:
    """Return the tasks that have changed in a connection after a position, all of them if that is not known, and the
    position up to which this is so."""
    span = None if after is None else read_frames(reader, number, after, _PAGE)
    if after is None or span is None or span.first > after + 1:
        return {_uuid(connection_id, task_id): task_id for task_id in tasks}, last
    by_id = {_text_id(connection_id, task_id): task_id for task_id in tasks}
    ids = {frame.data[_ID] for frame in span.frames if frame.event == JOB_STATE_CHANGE}
    return {_uuid(connection_id, by_id[id_]): by_id[id_] for id_ in ids & by_id.keys()}, span.last


def _store_cursors(writer: Connection, positions: Mapping[str, int]) -> None:
    for connection_id, position in sorted(positions.items()):
        writer.execute(_FORGET, {"id": connection_id})
        writer.execute(insert(event_cursor).values(connection=connection_id, position=position))


@lru_cache(maxsize=10_000)
def _uuid(connection_id: str, task_id: str) -> bytes:
    return job_uuid(connection_id, task_id)


@lru_cache(maxsize=10_000)
def _text_id(connection_id: str, task_id: str) -> str:
    return job_id(connection_id, task_id)


_OPEN = select(run.c.task_id, run.c.id).where(is_open_task)
HAS_OPEN_TASKS = _OPEN.exists()
"""The condition under which tasks are under way."""

_CURSORS = select(event_cursor)
_FORGET = delete(event_cursor).where(event_cursor.c.connection == bindparam("id"))
_POSITIONS = select(connection.c.number, connection.c.id, connection.c.position).order_by(connection.c.number)
