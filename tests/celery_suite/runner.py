"""Runs a part of Celery's suite in a separate process and environment."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.celery_suite.plugin import OUTCOMES, WITH_AGENT
from tests.support.process import ROOT


@dataclass(frozen=True, slots=True)
class Suite:
    """The unpacked source distribution, and the Python that has its requirements and this package."""

    source: Path
    python: Path


@dataclass(frozen=True, slots=True)
class Run:
    """The outcome of each test by its node id, and how many seconds all took."""

    outcomes: Mapping[str, str]
    seconds: float


def run(
    suite: Suite, part: str, directory: Path, environment: Mapping[str, str], arguments: Sequence[str], *, agent: bool
) -> Run:
    """Run ``t/<part>`` with `environment` added to this process's, and pytest's `arguments`, with or without agent."""
    name = f"{part}-{'with' if agent else 'without'}"
    outcomes = directory / f"{name}.json"
    inherited = {
        key: value for key, value in os.environ.items() if not key.startswith(("SLUICE_", "CELERY_", "PYTEST_"))
    }
    path = os.pathsep.join((str(suite.python.parent), inherited.get("PATH", os.defpath)))  # tests start `celery`
    env = {**inherited, **environment, OUTCOMES: str(outcomes), "PYTHONPATH": str(ROOT), "PATH": path}
    if agent:
        env[WITH_AGENT] = "1"
    command = [
        *(str(suite.python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.celery_suite.plugin"),
        *("--tb=short", "-rfE", "-W", "ignore", *(arguments or [f"t/{part}"])),
    ]
    started = time.monotonic()
    with (directory / f"{name}.log").open("ab") as log:
        subprocess.run(
            command,
            cwd=suite.source,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if not outcomes.exists():
        raise SystemExit(f"celery-suite: {name} ended before its tests did; see {log.name}")
    return Run(json.loads(outcomes.read_text()), time.monotonic() - started)
