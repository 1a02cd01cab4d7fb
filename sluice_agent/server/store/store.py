"""The one SQLite file: every event as received, and for each job the row that lists are made from.

All writes go through one connection under one lock, a transaction per request; every reader opens a separate
connection and sees the last commit (write-ahead log). A commit survives any end of the process; a power cut may cost
the last ones. Nothing is ever deleted: to start afresh, stop the server and remove the file, with its ``-wal`` and
``-shm``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from sluice_agent.errors import ConfigError
from sluice_agent.model import encode
from sluice_agent.server.record.record import Record, record_of
from sluice_agent.server.record.step import step_of
from sluice_agent.server.validation import ReceivedEvent

_VERSION = 1  # of the schema, kept in the file's user_version
_LOCK_TIMEOUT = 10.0  # seconds to wait for another process that writes to the same file

_SCHEMA = f"""
BEGIN;
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, connection_id TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    event_id TEXT, body TEXT NOT NULL, UNIQUE (connection_id, event_id));
CREATE INDEX IF NOT EXISTS events_by_subject ON events (connection_id, kind, subject);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, connection_id TEXT NOT NULL, external_id TEXT NOT NULL, framework TEXT NOT NULL,
    name TEXT NOT NULL, queue TEXT NOT NULL, state TEXT NOT NULL, worker_id TEXT NOT NULL, error TEXT NOT NULL,
    created_at TEXT NOT NULL, changed_at TEXT NOT NULL, started_at TEXT NOT NULL, completed_at TEXT NOT NULL,
    duration_ms INTEGER NOT NULL, summary TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_by_external_id ON jobs (external_id);
CREATE INDEX IF NOT EXISTS jobs_by_creation ON jobs (created_at, id);
CREATE INDEX IF NOT EXISTS jobs_by_name ON jobs (connection_id, name, created_at);
CREATE TABLE IF NOT EXISTS usage (day TEXT PRIMARY KEY, events INTEGER NOT NULL);
PRAGMA user_version = {_VERSION};
COMMIT;
"""

_FIND_EVENT = "SELECT 1 FROM events WHERE connection_id = ? AND event_id = ?"
_ADD_EVENT = "INSERT INTO events (connection_id, kind, subject, event_id, body) VALUES (?, ?, ?, ?, ?)"
_EVENTS_OF_JOB = "SELECT body FROM events WHERE connection_id = ? AND kind = 'job' AND subject = ?"
_PUT_JOB = "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_GET_USAGE = "SELECT coalesce(max(events), 0) FROM usage WHERE day = ?"
_SET_USAGE = "INSERT INTO usage VALUES (?, ?) ON CONFLICT (day) DO UPDATE SET events = excluded.events"

SUMMARY = (
    "id", "externalId", "framework", "connectionId", "name", "queue", "state", "stateChangedAt", "createdAt",
    "scheduledFor", "startedAt", "completedAt", "durationMs", "workerId", "error",
)  # fmt: skip
"""The fields of a record that a list of jobs shows."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of a batch, in events: accepted, already known, over the day's limit; and the day's usage after it."""

    accepted: int
    skipped: int
    truncated: int
    used: int


class Store:
    """The database at `path`, which is created if it is absent, readable by its owner only.

    Raises `ConfigError` if the file can't be opened or is not a database of this version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._writer = self._connect()
            (version,) = self._writer.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise ConfigError(f"{path} was made by another version of sluice-agent: choose another file")
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = NORMAL")
            self._writer.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"{path} can't be used as a database ({error}): choose another file") from error

    def add(self, received: Sequence[ReceivedEvent], day: str, limit: int | None) -> BatchResult:
        """Store the new ones of `received`, in their order, up to `limit` events in that `day`; derive their jobs."""
        with self._lock, self._transaction() as writer:
            (used,) = writer.execute(_GET_USAGE, (day,)).fetchone()
            new = list(self._new_events(received))
            accepted = new if limit is None else new[: max(0, limit - used)]
            writer.executemany(_ADD_EVENT, map(_event_row, accepted))
            jobs = dict.fromkeys((e["connectionId"], e["job"]["externalId"]) for e in accepted if "job" in e)
            writer.executemany(_PUT_JOB, (_row(stored_record(writer, *job)) for job in jobs))
            writer.execute(_SET_USAGE, (day, used + len(accepted)))
        return BatchResult(len(accepted), len(received) - len(new), len(new) - len(accepted), used + len(accepted))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Return a connection for the queries of one request, which all see the same state of the file."""
        with closing(self._connect()) as reader:
            reader.execute("PRAGMA query_only = ON")
            reader.execute("BEGIN")
            yield reader

    def close(self) -> None:
        """Close the writing connection. All commits are in the file."""
        with self._lock:
            self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield self._writer
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    def _new_events(self, received: Iterable[ReceivedEvent]) -> Iterator[ReceivedEvent]:
        seen: set[tuple[str, str]] = set()
        for event in received:
            event_id = _event_id(event)
            if event_id is not None:
                key = event["connectionId"], event_id
                if key in seen or self._writer.execute(_FIND_EVENT, key).fetchone():
                    continue
                seen.add(key)
            yield event


def stored_record(connection: sqlite3.Connection, connection_id: str, external_id: str) -> Record:
    """Return the record of a job that has events, derived from them."""
    bodies = connection.execute(_EVENTS_OF_JOB, (connection_id, external_id))
    return record_of(step_of(json.loads(body), body.encode()) for (body,) in bodies)


def _event_row(event: ReceivedEvent) -> tuple[str | None, ...]:
    kind = next(kind for kind in ("job", "worker", "queue") if kind in event)
    subject = event[kind].get("externalId") or event[kind].get("name", "")
    return event["connectionId"], kind, subject, _event_id(event), encode(event).decode()


def _event_id(event: ReceivedEvent) -> str | None:
    fields = event.get("job", {}).get("extensions") or event.get("worker", {}).get("metadata") or {}
    event_id = fields.get("eventId")
    return event_id if isinstance(event_id, str) and event_id else None


def _row(record: Record) -> tuple[str | int, ...]:
    """Return the columns by which jobs are found and sorted, empty if unknown, and the summary for lists."""
    return (
        record["id"],
        record["connectionId"],
        record["externalId"],
        record["framework"],
        record["name"],
        record["queue"] or "",
        record["state"],
        record["workerId"] or "",
        record["error"] or "",
        record["createdAt"],
        record["stateChangedAt"],
        record["startedAt"] or "",
        record["completedAt"] or "",
        -1 if record["durationMs"] is None else record["durationMs"],
        json.dumps({name: record[name] for name in SUMMARY}),
    )
