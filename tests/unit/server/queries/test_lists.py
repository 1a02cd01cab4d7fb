"""The list of jobs: every filter, sort and page, whatever way is taken to it, and what it reads for that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine

from sluice_agent.server.queries.order import SortBy
from sluice_agent.server.queries.plan import Limits
from sluice_agent.server.store.schema import metadata
from tests.support.examples import examples
from tests.support.plain_lists import WAYS, Jobs, check_lists
from tests.support.server_data import fill

JOBS = 3_000


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        fill(connection, JOBS, steps_every=JOBS)
        yield Jobs(connection)
    engine.dispose()


@pytest.mark.parametrize("limits", WAYS)
@pytest.mark.parametrize("by", list(SortBy))
def test_pages_are_those_of_a_plain_reading(jobs: Jobs, by: SortBy, limits: Limits) -> None:
    """A user would otherwise miss jobs, see them twice, or in another order, once there are many of them."""
    check_lists(jobs, by, limits, examples(10))
