"""A run of the tests ends with how long each part took."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.part_times import NAME, PATH
from tests.unit.support.test_reruns import inherited_environment

CONFTEST = """
from tests.support.part_times import PartTimes

def pytest_configure(config):
    config.pluginmanager.register(PartTimes())
"""
SLOW = "import time\ndef test_one(): time.sleep(0.6)\ndef test_two(): assert False\n"


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_each_folder_has_a_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Whoever waits for CI would not see what became slow."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for folder in ("first", "second"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / f"test_{folder}.py").write_text(SLOW)
    environment = inherited_environment() | {PATH: str(tmp_path / "times"), NAME: "celery 5.4"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "xdist",
        *options,
        "--rootdir",
        str(tmp_path),
        str(tmp_path / "tests"),
    ]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    lines = (tmp_path / "times").read_text().splitlines()
    assert len(lines) == 2, ended.stdout
    for folder, line in zip(("first", "second"), lines, strict=True):
        assert re.fullmatch(
            rf"celery 5.4 tests/{folder}: 2 tests, 1 s in all; the run took \d+ s, {2 if options else 1} at a time",
            line,
        )
