"""Canvases and groups of errors on PostgreSQL, beside SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine

from sluice_agent.server.queries import canvas
from sluice_agent.server.queries.error_groups import count_without_class, find_group, group_errors, tasks_of_group
from sluice_agent.server.queries.window import TimeRange, plotted_window
from sluice_agent.server.store.schema import metadata
from tests.support.server_data import NOW, fill


@contextmanager
def filled(address: str) -> Iterator[Connection]:
    """Return a reader of a database with a few thousand jobs."""
    engine = create_engine(address)
    metadata.create_all(engine)
    with engine.connect() as connection:
        fill(connection, 3_000, connections=1, steps_every=3_000)
        yield connection
    engine.dispose()


@pytest.fixture
def readers(postgresql: str) -> Iterator[tuple[Connection, Connection]]:
    address = postgresql.replace("postgresql://", "postgresql+psycopg://")
    with filled("sqlite://") as sqlite, filled(address) as postgres:
        yield sqlite, postgres


def test_canvases_are_the_same(readers: tuple[Connection, Connection]) -> None:
    """A user of PostgreSQL would see another tree than one of SQLite, or an error."""

    def read(reader: Connection) -> list[Any]:
        (root_id,) = reader.exec_driver_sql(
            "SELECT root_id FROM job WHERE root_id IS NOT NULL ORDER BY number LIMIT 1"
        ).one()
        (parent,) = reader.exec_driver_sql(
            "SELECT parent FROM job WHERE parent IS NOT NULL ORDER BY number LIMIT 1"
        ).one()
        branches = canvas.branches_of(reader, 1, [bytes(parent)])
        found: list[Any] = [canvas.count_canvas(reader, 1, root_id), branches]
        for branch, states in sorted(branches.items(), key=str):
            whole = canvas.members_of(reader, 1, branch, states, 100)
            found += [whole, canvas.members_of(reader, 1, branch, states, 2, 1), canvas.count_branch(reader, 1, branch)]
            found += [canvas.followed_members(reader, 1, branch, states, 5), canvas.ancestors_of(reader, 1, whole)]
            group = canvas.Branch(None, branch.group_id)
            found += [canvas.members_of(reader, 1, group, states, 9)] if branch.group_id else []
        small = canvas.all_members(reader, 1, list(branches))
        return [*found, small, canvas.failed_members(reader, 1, root_id, 5)]

    sqlite, postgres = map(read, readers)
    assert sqlite == postgres
    assert len(sqlite[1]) == 2
    assert sum(map(len, sqlite[-2].values())) == 9


def test_groups_of_errors_are_the_same(readers: tuple[Connection, Connection]) -> None:
    """The same holds for errors."""

    def read(reader: Connection) -> list[Any]:
        window = plotted_window(TimeRange.WEEK, NOW)
        groups = group_errors(reader, 1, window, 1_000)
        key = groups.shown[0].key
        one, tasks = find_group(reader, 1, window, key), tasks_of_group(reader, 1, window, key, 1_000)
        return [groups, one, sorted(tasks), count_without_class(reader, 1, window)]

    sqlite, postgres = map(read, readers)
    assert sqlite == postgres
    assert sqlite[0].shown[0] == sqlite[1]
    assert sum(jobs for _, jobs in sqlite[2]) == sqlite[1].jobs
    assert sqlite[0].jobs > 20
