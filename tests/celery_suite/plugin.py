"""The pytest plugin that runs inside Celery's suite: it installs the agent, if it is to, and records each outcome.

``-p`` loads it before anything is collected, as a host's first line would install the agent. Nothing of the project's
test support may enter: it runs with the suite's own libraries.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

OUTCOMES = "CELERY_SUITE_OUTCOMES"
"""The environment variable that names the file for outcomes, a JSON object of outcome by node id."""

WITH_AGENT = "CELERY_SUITE_WITH_AGENT"
"""Set where the agent is to be installed; its own settings are in the environment too."""

_WORST = ("passed", "xpassed", "xfailed", "skipped", "failed", "error")  # a test counts as the worst of its phases


class Outcomes:
    """The outcome of each test so far: of setup, call and teardown the worst, and of reruns the last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._of: dict[str, str] = {}

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = _outcome(report)
        known = self._of.get(report.nodeid, "passed") if report.when != "setup" else "passed"
        self._of[report.nodeid] = max(known, outcome, key=_WORST.index)

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(self._of))


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
