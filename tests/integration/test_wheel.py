"""In CI every test runs on the built wheel: what users install, not the source that it was made from."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import sluice_agent
from tests.faults.host import IN_MEMORY
from tests.support.process import ROOT
from tests.support.worker import python_env

SITE_PACKAGES = Path(sysconfig.get_path("purelib"))

pytestmark = pytest.mark.skipif(os.environ.get("CI") != "true", reason="outside CI the tests may run on the source")


def test_the_tests_import_the_wheel() -> None:
    """A file that is missing in the wheel would be found by the first user."""
    assert Path(sluice_agent.__file__).parent == SITE_PACKAGES / "sluice_agent"


def test_the_processes_that_tests_start_import_the_wheel() -> None:
    """The workers and commands of the tests: most of the package runs only there."""
    code = "import celery, sluice_agent; print(sluice_agent.__file__)"
    command, env = [sys.executable, "-c", code], python_env(IN_MEMORY, None)
    printed = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True).stdout
    assert Path(printed.strip()).parent == SITE_PACKAGES / "sluice_agent"
