"""The list of jobs on PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine

from sluice_agent.server.queries.order import SortBy
from sluice_agent.server.store.schema import metadata
from tests.support.plain_lists import WAYS, Jobs, check_lists
from tests.support.postgresql import new_database, shared_postgresql
from tests.support.server_data import fill


def test_lists_are_those_of_a_plain_reading(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A user of PostgreSQL would otherwise see other lists than one of SQLite, or an error."""
    base = tmp_path_factory.getbasetemp()
    with shared_postgresql(base) as server, new_database(server.port()) as url:
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        metadata.create_all(engine)
        with engine.connect() as connection:
            fill(connection, 1_000, steps_every=1_000)
            jobs = Jobs(connection)
            for by in SortBy:
                for limits in WAYS:
                    check_lists(jobs, by, limits, 2)
        engine.dispose()
