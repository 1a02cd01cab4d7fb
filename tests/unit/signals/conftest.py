"""Celery as it is without the agent, after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sluice_agent.signals.patching import restore_methods


@pytest.fixture(autouse=True)
def restored_methods() -> Iterator[None]:
    """Restore the methods that a test lets the agent replace: a method is replaced once in a process."""
    yield
    restore_methods()
