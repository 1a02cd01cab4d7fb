"""A real database, and a clock that tests set."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine

from sluice_agent.server.store.database import open_database


class Clock:
    """A clock that stands still until `pass_` moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 2, 27, 12, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, time: timedelta) -> None:
        """Move the clock on."""
        self.now += time


@pytest.fixture
def clock() -> Clock:
    """A clock of one test."""
    return Clock()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine over a new file."""
    engine = open_database(tmp_path / "sluice.db")
    yield engine
    engine.dispose()
