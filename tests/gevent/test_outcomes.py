"""The table in one process that gevent has patched: threads, locks and sockets of the agent are greenlets' there."""

from __future__ import annotations

import pytest

from tests.gevent.conftest import rows
from tests.integration.test_outcomes import (  # noqa: F401 - they run here a second time
    test_every_job_ends,
    test_no_transition_is_reported_twice,
    test_nothing_breaks_the_contract,
    test_outcome,
    test_the_rules_hold_for_every_job,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each row."""
    if "row" in metafunc.fixturenames:
        metafunc.parametrize("row", rows(), ids=lambda row: row.name)
