"""The pytest plugin that runs inside Celery's suite: it installs the agent, if requested, and records outcomes.

``-p`` loads it before tests are collected, as a host's first line would install the agent. It must not import the
project's test support: it runs with the suite's own libraries.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

OUTCOMES = "CELERY_SUITE_OUTCOMES"
"""The environment variable that names the file for outcomes, a JSON object of outcome by node id."""

WITH_AGENT = "CELERY_SUITE_WITH_AGENT"
"""Set if the agent is to be installed; its own settings are in the environment too."""

_WORST = ("passed", "xpassed", "xfailed", "skipped", "failed", "error")  # a test has the worst outcome of its phases


class Outcomes:
    """The outcome of each test so far: the worst of setup, call and teardown, and the last of its reruns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[str, str] = {}

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = _outcome(report)
        known = self._outcomes.get(report.nodeid, "passed") if report.when != "setup" else "passed"
        self._outcomes[report.nodeid] = max(known, outcome, key=_WORST.index)

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(self._outcomes))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Outcomes(Path(os.environ[OUTCOMES])), "celery-suite-outcomes")


def _outcome(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    if report.outcome == "rerun":
        return "passed"
    return "error" if report.failed and report.when != "call" else report.outcome


if WITH_AGENT in os.environ:
    import sluice_agent

    sluice_agent.install()
