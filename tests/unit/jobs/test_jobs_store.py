"""The database of the jobs API: a file beside that of events, with versions of its own."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from sluice_agent.errors import ConfigError
from sluice_agent.jobs.store.migrations import versions
from sluice_agent.jobs.store.schema import job_version, metadata
from sluice_agent.jobs.store.store import TABLES, JobsStore
from sluice_agent.server.store.database import open_database
from sluice_agent.server.store.migrate import upgrade
from sluice_agent.server.store.turns import Turns
from tests.support.jobs_migrations import UNDO, assert_each_revision_is_upgraded, fill
from tests.support.migrations import assert_each_follows
from tests.support.tables import tables_of
from tests.support.waiting import wait_until
from tests.unit.jobs.conftest import Clock


def test_the_file_is_beside_that_of_events_and_private(tmp_path: Path) -> None:
    """Others on the machine could read payloads and secrets of webhooks, and writers of events would wait for runs."""
    JobsStore(tmp_path / "sluice.db", Clock()).close()
    files = list(tmp_path.iterdir())
    assert {file.name for file in files} == {"sluice.jobs.db"}
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)


def test_the_secret_of_tokens_stays(tmp_path: Path) -> None:
    """After a restart of the server the tokens of runs that are under way would be worthless."""
    stores = [JobsStore(tmp_path / name, Clock()) for name in ("a.db", "a.db", "b.db")]
    assert stores[0].token_secret == stores[1].token_secret != stores[2].token_secret
    for store in stores:
        store.close()


def test_a_transaction_in_bulk_lets_others_go_first(tmp_path: Path) -> None:
    """Runs that are due would wait for seconds while others are triggered in bulk."""
    store = JobsStore(tmp_path / "s.db", Clock())
    turns: Turns = store.engine.get_execution_options()["turns"]
    order: list[bool] = []

    def write(*, bulk: bool) -> None:
        with store.writing(bulk=bulk):
            order.append(bulk)

    with ThreadPoolExecutor(3) as threads, store.writing():
        for count, bulk in enumerate((True, True, False), 1):
            threads.submit(write, bulk=bulk)
            wait_until(lambda count=count: turns.waiting == count)  # type: ignore[misc]
    assert order == [False, True, True]
    store.close()


def test_no_secret_is_in_an_error(tmp_path: Path) -> None:
    """The log of a server, which many can read, would have the secrets of webhooks after a failure."""
    store = JobsStore(tmp_path / "s.db", Clock())
    row = {"job_id": "x", "version": 1, "id": "ver_x", "settings": "whsec_secret", "created_at": 1}
    with pytest.raises(IntegrityError) as caught, store.writing() as writer:
        writer.execute(job_version.insert(), [row, row])
    assert "whsec_secret" not in str(caught.value)
    store.close()


def test_a_file_of_a_newer_version_or_another_program_is_left_alone(tmp_path: Path) -> None:
    """Who goes back to this version would lose what the newer one has stored."""
    JobsStore(tmp_path / "s.db", Clock()).close()
    with sqlite3.connect(tmp_path / "s.jobs.db") as file:
        file.execute("UPDATE alembic_version SET version_num = '9999'")
    file.close()
    with pytest.raises(ConfigError, match=r"s\.jobs\.db can't be used.*newer version"):
        JobsStore(tmp_path / "s.db", Clock())
    with sqlite3.connect(tmp_path / "other.jobs.db") as file:
        file.execute("CREATE TABLE precious (value)")
    file.close()
    with pytest.raises(ConfigError, match="made by another program"):
        JobsStore(tmp_path / "other.db", Clock())


def test_migrations_make_the_tables_of_a_new_file(tmp_path: Path) -> None:
    """A column that only new files have would otherwise make the first write of an older installation fail."""
    new, old = open_database(tmp_path / "new.db", TABLES), open_database(tmp_path / "old.db", TABLES)
    with old.connect().execution_options(writing=True) as connection, connection.begin():
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
        upgrade(connection, TABLES)
        assert tables_of(connection) == tables_of(new)
    for engine in (old, new):
        engine.dispose()


def test_a_file_of_each_earlier_version_is_migrated(tmp_path: Path) -> None:
    """Definitions and runs of an installation that is updated would be out of reach."""
    engine = open_database(tmp_path / "s.db", TABLES)
    with engine.connect().execution_options(writing=True) as connection, connection.begin():
        fill(connection)
        assert_each_revision_is_upgraded(connection)
    engine.dispose()


def test_each_migration_follows_the_one_before() -> None:
    """Two that were added at the same time would both be the last, and no database could be migrated."""
    assert_each_follows(versions)
    assert versions.__file__ is not None
    newest = max(file.name[:4] for file in Path(versions.__file__).parent.glob("0*.py"))
    assert newest in UNDO, "no test migrates a database of the revision before"
