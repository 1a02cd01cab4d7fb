"""The fixtures of all unit tests."""

from __future__ import annotations

import logging
import os

import pytest
from hypothesis import settings

from sluice_agent import log
from tests.support.examples import EXAMPLES, examples

is_same_in_each_run = EXAMPLES == "some"  # as in Hypothesis's own profile for CI
settings.register_profile(
    "sluice", max_examples=examples(100), deadline=None, derandomize=is_same_in_each_run, print_blob=True
)
settings.load_profile("sluice")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the machine's own settings, and what earlier tests leave of the log: the lines, which would suppress this
    one's, and the level of a command that ran in this process.
    """
    for name in [name for name in os.environ if name.startswith(("SLUICE_", "ACKLY_"))]:
        monkeypatch.delenv(name)
    log.last_logged.clear()
    log.logger.setLevel(logging.NOTSET)
