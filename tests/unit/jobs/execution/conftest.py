"""Runs whose engine and workers the test plays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.job_attempts import Attempts


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempts]:
    """The database of a module."""
    attempts = Attempts(tmp_path_factory.mktemp("jobs") / "sluice.db")
    yield attempts
    attempts.store.close()
