"""The table in one process that gevent has patched: the agent's threads, locks and sockets are gevent's there."""

from __future__ import annotations

import pytest

from tests.gevent.conftest import rows
from tests.integration.test_outcomes import (  # noqa: F401 - these tests run here again
    test_every_job_ends,
    test_no_transition_is_reported_twice,
    test_nothing_breaks_the_contract,
    test_outcome,
    test_the_rules_hold_for_every_job,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize the tests with the rows."""
    if "row" in metafunc.fixturenames:
        metafunc.parametrize("row", rows(), ids=lambda row: row.name)
