"""The database file: made, opened again, migrated from the first version, and refused if it is another's."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime, timezone
from pathlib import Path

import pytest

from sluice_agent.errors import ConfigError
from sluice_agent.server.store import IngestBatch, Store
from sluice_agent.server.store.database import open_database
from sluice_agent.server.store.migrations import versions
from sluice_agent.server.store.ownership import Ownership
from sluice_agent.server.store.schema import metadata
from tests.support.local_sluice import local_sluice
from tests.support.migrations import assert_each_follows
from tests.support.tables import tables_of
from tests.unit.server.events import CONNECTION, at, ingest, job_event, worker_event

FIRST_VERSION = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, connection_id TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    event_id TEXT, body TEXT NOT NULL, UNIQUE (connection_id, event_id));
CREATE INDEX events_by_subject ON events (connection_id, kind, subject);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, connection_id TEXT NOT NULL, external_id TEXT NOT NULL, framework TEXT NOT NULL,
    name TEXT NOT NULL, queue TEXT NOT NULL, state TEXT NOT NULL, worker_id TEXT NOT NULL, error TEXT NOT NULL,
    created_at TEXT NOT NULL, changed_at TEXT NOT NULL, started_at TEXT NOT NULL, completed_at TEXT NOT NULL,
    duration_ms INTEGER NOT NULL, summary TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX jobs_by_external_id ON jobs (external_id);
CREATE INDEX jobs_by_creation ON jobs (created_at, id);
CREATE INDEX jobs_by_name ON jobs (connection_id, name, created_at);
CREATE TABLE usage (day TEXT PRIMARY KEY, events INTEGER NOT NULL);
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
"""
"""The schema of the server that was released without migrations, as it was in its code."""


def now() -> datetime:
    return datetime(2026, 2, 27, 12, tzinfo=timezone.utc)


def first_version(path: Path, *events: dict[str, object]) -> None:
    """Make a file as the first server did. Its lists were derived from the events, which it alone needs here."""
    with sqlite3.connect(path) as file:
        file.executescript(FIRST_VERSION)
        file.executemany(
            "INSERT INTO events (connection_id, kind, subject, event_id, body) VALUES (?, ?, ?, ?, ?)",
            [(CONNECTION, "job", "x", str(number), json.dumps(event)) for number, event in enumerate(events)],
        )
        file.execute("INSERT INTO usage VALUES ('2026-02-27', ?)", (len(events),))
    file.close()


def test_a_file_of_the_first_version_is_migrated(tmp_path: Path) -> None:
    """A user who installs the new version would otherwise lose the jobs of the old one."""
    queue = {"name": "q", "depth": 3}
    common = {"timestamp": at(1), "framework": "celery", "connectionId": CONNECTION}
    first_version(
        tmp_path / "s.db",
        job_event("queued", 0, event_id="1", createdAt=at(0), queue="q"),
        job_event("active", 1, event_id="2") | {"connectionId": CONNECTION.upper()},
        job_event("completed", 2, event_id="3", error="", extensions={"result": "'é'"}),
        job_event("failed", 2, event_id="4", externalId="other"),
        {**common, "type": "queue_snapshot", "queue": queue},
    )
    with local_sluice(tmp_path / "s.db", now=now) as server:
        client = server.client()
        record = client.get("/jobs/job-1").json()
        assert [entry["state"] for entry in record["stateHistory"]] == ["queued", "active", "completed"]
        assert record["result"] == "'é'"
        assert client.get("/jobs", params={"state": "failed"}).json()["data"][0]["externalId"] == "other"
        assert client.get("/health").json()["counts"] == {"events": 5, "jobs": 2}
        answer = client.post("/ingest", json={"events": [job_event("active", 1, event_id="2")]}).json()
        assert answer["skipped"] == 1
    with sqlite3.connect(tmp_path / "s.db") as file:
        tables = {name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert not tables & {"events", "jobs", "first_usage"}
        assert file.execute("PRAGMA auto_vacuum").fetchone() == (2,)  # incremental
    file.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    """Something that can't be moved would otherwise leave a file that neither version can open."""
    first_version(tmp_path / "s.db", job_event("queued", 0), job_event("active", 1))
    with sqlite3.connect(tmp_path / "s.db") as file:
        file.execute("ALTER TABLE usage RENAME day TO date")
    file.close()
    for _ in range(2):
        with pytest.raises(ConfigError, match="no such column"):
            Store(tmp_path / "s.db", now=now)
    with sqlite3.connect(tmp_path / "s.db") as file:
        assert file.execute("SELECT count(*) FROM events").fetchone() == (2,)
        assert file.execute("PRAGMA user_version").fetchone() == (1,)
    file.close()


def test_values_that_the_new_tables_can_not_hold_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One queue that was once reported as endless would keep a user from starting the new version."""
    common = {"timestamp": at(1), "framework": "celery", "connectionId": CONNECTION}
    depth = {**common, "type": "queue_snapshot"}
    first_version(
        tmp_path / "s.db",
        job_event("queued", 0),
        {**depth, "queue": {"name": "q", "depth": 2**63}},
        {**depth, "queue": {"name": "q", "depth": 1, "consumers": 2**31}},
        job_event("active", 1, attempt=2**31),
        job_event("failed", 1, error="\ud800"),
        worker_event("online", 1, activeJobs=2**31),
        job_event("active", 1) | {"timestamp": "2026-02-31T10:00:00Z"},
        {"connectionId": CONNECTION, "job": {}},
        job_event("active", 1, extensions={"load": 1e308 * 10}),
        job_event("completed", 2, maxRetries=2**70, extensions={"eta": 2**70, "deep": [[[1e300]]]}),
    )
    with sqlite3.connect(tmp_path / "s.db") as file:
        file.execute("INSERT INTO events (connection_id, kind, subject, body) VALUES ('', '', '', '{\"events\"')")
    file.close()
    with local_sluice(tmp_path / "s.db", now=now) as server:
        record = server.client().get("/jobs/job-1").json()
        assert record["state"] == "completed"
        assert server.client().get("/health").json()["counts"]["jobs"] == 1
    assert [record.getMessage()[:29] for record in caplog.records] == [
        "An event of the older file ca",
        "8 events of the older file we",
    ]


def test_times_of_the_future_in_an_older_file_end(tmp_path: Path) -> None:
    """The jobs and workers of a host whose clock was wrong would stay for ever, as they never report again."""
    future = {"timestamp": "2099-01-01T00:00:00.000Z"}
    with local_sluice(tmp_path / "s.db", now=now) as server:
        ingest(server.client(), job_event("completed", 0), job_event("completed", 0, externalId="future") | future)
        ingest(server.client(), worker_event("heartbeat", 0) | future)
    with sqlite3.connect(tmp_path / "s.db") as file:
        file.execute("DROP TABLE future_job")
        file.execute("UPDATE worker SET at = 4070908800000000, last_heartbeat = NULL")
        file.execute("UPDATE alembic_version SET version_num = '0009'")
    Store(tmp_path / "s.db", now=now).close()
    with sqlite3.connect(tmp_path / "s.db") as file:
        jobs = "SELECT external_id, received_at FROM future_job JOIN job ON number = future_job.job"
        ((job, received_at),) = file.execute(jobs)
        ((at, heartbeat),) = file.execute("SELECT at, last_heartbeat FROM worker")
    file.close()
    assert (job, at, heartbeat) == ("future", received_at, None)
    assert received_at < 4070908800000000


def test_jobs_that_each_have_a_fold_go_on_without(tmp_path: Path) -> None:
    """A server that is replaced while a job runs would otherwise go on from a state of the old version's."""
    with local_sluice(tmp_path / "s.db", now=now) as server:
        ingest(server.client(), job_event("queued", 0, event_id="1", createdAt=at(0), queue="q"))
    with sqlite3.connect(tmp_path / "s.db") as file:
        file.execute("ALTER TABLE job DROP COLUMN fold")
        file.execute("ALTER TABLE job ADD COLUMN fold BLOB NOT NULL DEFAULT x'00'")
        file.execute("UPDATE alembic_version SET version_num = '0004'")
    file.close()
    with local_sluice(tmp_path / "s.db", now=now) as server:
        ingest(server.client(), job_event("active", 1, event_id="2"), job_event("queued", 0, externalId="new"))
        assert server.client().get("/jobs/job-1").json()["queue"] == "q"
        [job] = server.client().get("/jobs", params={"state": "active"}).json()["data"]
        assert (job["externalId"], job["queue"]) == ("job-1", "q")


def test_jobs_of_an_older_version_expire(tmp_path: Path) -> None:
    """Jobs that waited while the server was replaced, also for their ETA, would never be shown as expired."""
    extensions = {"expires": at(30)}
    with local_sluice(tmp_path / "s.db", now=now) as server:
        ingest(
            server.client(),
            job_event("queued", 0, createdAt=at(0), extensions=extensions),
            job_event("scheduled", 0, externalId="held", createdAt=at(0), extensions=extensions),
        )
    with sqlite3.connect(tmp_path / "s.db") as file:
        file.execute("DROP INDEX job_by_expiry")
        file.execute("ALTER TABLE job DROP COLUMN expires_at")
        file.execute("UPDATE alembic_version SET version_num = '0008'")
    file.close()
    with local_sluice(tmp_path / "s.db", now=now) as server:
        client = server.client()
        ingest(client, job_event("queued", 1, externalId="held"))
        jobs = client.get("/jobs", params={"problem": "expired"}).json()["data"]
        assert {job["externalId"] for job in jobs} == {"job-1", "held"}


def test_migrations_make_the_tables_of_a_new_file(tmp_path: Path) -> None:
    """A column that only new files have would otherwise make the first write of an older installation fail."""
    first_version(tmp_path / "old.db")
    old, new = open_database(tmp_path / "old.db"), open_database(tmp_path / "new.db")
    assert tables_of(old) == tables_of(new)
    assert tables_of(new).keys() == {*metadata.tables, "alembic_version"}
    for engine in (old, new):
        engine.dispose()


def test_a_database_keeps_its_epoch(tmp_path: Path) -> None:
    """A reader of the stream would otherwise lose its place by a restart, or resume in another database."""
    stores = [Store(tmp_path / name, now=now) for name in ("a.db", "b.db")]
    assert stores[0].epoch != stores[1].epoch
    for store in stores:
        store.close()
    again = Store(tmp_path / "a.db", now=now)
    assert again.epoch == stores[0].epoch
    again.close()


def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    """Everybody on the machine could otherwise read the arguments of all jobs."""
    store = Store(tmp_path / "new" / "s.db", now=now)
    store.submit(IngestBatch([job_event("active", 0)], "2026-02-27")).result(30)
    assert [path.name for path in (tmp_path / "new").iterdir() if path.stat().st_mode & 0o077] == []
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    store.close()


def test_a_file_has_only_one_server(tmp_path: Path) -> None:
    """Two servers over one file would otherwise give their jobs the same numbers, and miss what the other writes."""
    store = Store(tmp_path / "s.db", now=now)
    (tmp_path / "link.db").symlink_to("s.db")
    for name in ("s.db", "link.db"):
        with pytest.raises(ConfigError, match=rf"Another server uses .*{name}: stop it"):
            Store(tmp_path / name, now=now, patience=0)
    store.close()
    Store(tmp_path / "s.db", now=now).close()


def test_the_file_of_a_running_server_is_not_migrated(tmp_path: Path) -> None:
    """A new version that is started beside the old one would otherwise change the tables under it."""
    owner = Ownership(tmp_path / "s.db", 0)
    first_version(tmp_path / "s.db", job_event("active", 1))
    with pytest.raises(ConfigError, match="Another server uses"):
        Store(tmp_path / "s.db", now=now, patience=0)
    with sqlite3.connect(tmp_path / "s.db") as file:
        assert file.execute("PRAGMA user_version").fetchone() == (1,)
    file.close()
    owner.release()


def test_the_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """A mistyped path would otherwise add our tables to a database that a user needs."""
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE precious (value)")
    other.close()
    with pytest.raises(ConfigError, match="made by another program"):
        Store(tmp_path / "other.db", now=now)


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """Who goes back to this version would otherwise read of a revision that can't be located."""
    Store(tmp_path / "s.db", now=now).close()
    with sqlite3.connect(tmp_path / "s.db") as file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    file.close()
    with pytest.raises(ConfigError, match="its tables are of a newer version of sluice-agent"):
        Store(tmp_path / "s.db", now=now)


OLDER_JOB = """
DROP INDEX job_by_error_class; DROP INDEX job_by_root; DROP INDEX job_by_group; DROP INDEX job_by_parent;
DROP INDEX job_by_error_location; DROP INDEX job_by_error;
ALTER TABLE job DROP COLUMN parent;
ALTER TABLE job DROP COLUMN error_location;
DELETE FROM label WHERE kind = 5;
CREATE INDEX job_by_error_class ON job (connection, error_class, created_at) WHERE error_class IS NOT NULL;
CREATE INDEX job_by_root ON job (connection, root_id, created_at) WHERE root_id IS NOT NULL;
CREATE INDEX job_by_group ON job (connection, group_id, created_at) WHERE group_id IS NOT NULL;
UPDATE alembic_version SET version_num = '0005';
"""
"""What makes a file of this version one of version 0005: its jobs have no parent and no location of their error."""

TRACE = 'Traceback (most recent call last):\n  File "/srv/shop/tasks.py", line 12, in send\n    connect()\nOSError: no'


def test_parents_and_locations_of_older_jobs_are_filled_in(tmp_path: Path) -> None:
    """After an update the tree of a canvas would otherwise be flat, and old errors would have no location."""
    store = Store(tmp_path / "s.db", now=now)
    events = [
        job_event("completed", 0, externalId="root"),
        job_event(
            "failed", 1, error="OSError: no", stacktrace=TRACE, extensions={"rootId": "root", "parentId": "root"}
        ),
        job_event("failed", 1, externalId="other", error="OSError: no", stacktrace=TRACE),
        job_event("failed", 1, externalId="no class", error="no", stacktrace=TRACE),
        job_event("completed", 1, externalId="no root", extensions={"parentId": "root"}),
    ]
    store.submit(IngestBatch(events, "2026-02-27")).result(30)
    store.close()
    query = "SELECT external_id, text, parent FROM job LEFT JOIN label ON label.number = error_location ORDER BY 1"
    indexes = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' ORDER BY name"
    statistics = "SELECT * FROM sqlite_stat1 ORDER BY idx"
    with sqlite3.connect(tmp_path / "s.db") as file:
        before = [file.execute(statement).fetchall() for statement in (query, indexes, statistics)]
        file.executescript(OLDER_JOB)
    file.close()
    shown = [(id_, location is not None, parent is not None) for id_, location, parent in before[0]]
    assert shown == [
        ("job-1", True, True),
        ("no class", True, False),
        ("no root", False, True),
        ("other", True, False),
        ("root", False, False),
    ]
    Store(tmp_path / "s.db", now=now).close()
    with sqlite3.connect(tmp_path / "s.db") as file:
        assert [file.execute(statement).fetchall() for statement in (query, indexes, statistics)] == before
    file.close()


def test_each_migration_follows_the_one_before() -> None:
    """Two that were added at the same time would both be the last, and no database could be migrated."""
    assert_each_follows(versions)
