"""Runs that the test triggers and claims, without a thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.job_attempts import Attempts


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[Attempts]:
    """The database of a test."""
    attempts = Attempts(tmp_path / "sluice.db")
    yield attempts
    attempts.store.close()
