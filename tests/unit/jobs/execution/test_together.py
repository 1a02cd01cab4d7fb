"""Requests of many workers in one transaction."""

from __future__ import annotations

from tests.support.job_attempts import Attempts
from tests.support.jobs_together import check_requests_together, check_statements


def test_each_request_has_its_own_answer(attempts: Attempts) -> None:
    """Under load a worker would send what another one was refused, or a report be lost with its neighbour's."""
    check_requests_together(attempts)


def test_many_take_as_many_statements_as_one(attempts: Attempts) -> None:
    """A server would execute a quarter of the runs, as each waits for a dozen answers of its database."""
    check_statements(attempts)
