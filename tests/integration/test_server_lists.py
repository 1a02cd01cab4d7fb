"""The list of jobs on PostgreSQL."""

from __future__ import annotations

from sqlalchemy import create_engine

from sluice_agent.server.queries.sorting import SortBy
from sluice_agent.server.store.schema import metadata
from tests.support.plain_lists import WAYS, Jobs, check_lists
from tests.support.server_data import fill


def test_lists_are_those_of_a_plain_reading(postgresql: str) -> None:
    """A user of PostgreSQL would otherwise see other lists than one of SQLite, or an error."""
    engine = create_engine(postgresql.replace("postgresql://", "postgresql+psycopg://"))
    metadata.create_all(engine)
    with engine.connect() as connection:
        fill(connection, 1_000, steps_every=1_000)
        jobs = Jobs(connection)
        for by in SortBy:
            for limits in WAYS:
                check_lists(jobs, by, limits, 2)
    engine.dispose()
