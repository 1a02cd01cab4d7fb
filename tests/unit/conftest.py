"""The fixtures of all unit tests."""

from __future__ import annotations

import os

import pytest

from sluice_agent import log


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the machine's own settings, and the log lines of earlier tests, which would suppress this one's."""
    for name in [name for name in os.environ if name.startswith(("SLUICE_", "ACKLY_"))]:
        monkeypatch.delenv(name)
    log.last_logged.clear()
