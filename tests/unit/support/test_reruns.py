"""In CI a test that fails is run again, alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.failures import PATH, without_group
from tests.support.process import ROOT

TESTS = """
import os, pathlib, pytest

@pytest.mark.parametrize("name", ["a@b", "c"])
@pytest.mark.xdist_group("group")
def test_that_passes_the_second_time(name):
    before = pathlib.Path(f"{name}.seen")
    if not before.exists():
        before.touch()
        raise AssertionError("the first time")

def test_that_fails():
    assert "NEVER" not in os.environ

def test_that_passes():
    pass
"""
FLAKY = ["test_some.py::test_that_passes_the_second_time[a@b]", "test_some.py::test_that_passes_the_second_time[c]"]


def inherited_environment() -> dict[str, str]:
    """Return an environment in which pytest tests other tests."""
    inherited = {name: value for name, value in os.environ.items() if name not in {PATH, "CI", "PYTEST_XDIST_WORKER"}}
    # Plugins take longer than the tests.
    return {**inherited, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/pytest.sh in `directory`, on the tests above."""
    (directory / "test_some.py").write_text(TESTS)
    (directory / "conftest.py").write_text("from tests.support.failures import pytest_runtest_logreport\n")
    env = {**inherited_environment(), "PYTEST": f"{sys.executable} -m pytest -p xdist", **environment}
    command = ["sh", str(ROOT / "scripts" / "pytest.sh"), *arguments]
    return subprocess.run(command, cwd=directory, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [(), ("-n", "1", "--dist", "loadgroup")], ids=["alone", "xdist"])
def test_a_test_that_passes_the_second_time_is_listed_and_fails_no_build(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A machine that is slow for a moment would otherwise reject a change that is right."""
    result = run(tmp_path, *options, CI="true")
    assert result.returncode == 0, result.stdout
    assert (tmp_path / "flaky-tests.txt").read_text().splitlines() == FLAKY


def test_a_test_that_fails_twice_fails_the_run(tmp_path: Path) -> None:
    """A fault would otherwise pass as bad luck."""
    result = run(tmp_path, CI="true", NEVER="1")
    assert result.returncode == 1
    assert result.stdout.count("FAILED test_some.py::test_that_fails") == 2
    assert (tmp_path / "flaky-tests.txt").read_text().splitlines() == FLAKY


def test_elsewhere_nothing_is_run_again(tmp_path: Path) -> None:
    """The author of a test would otherwise not learn that it fails now and then."""
    assert run(tmp_path).returncode == 1
    assert not (tmp_path / "flaky-tests.txt").exists()


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("t.py::test[a]@redis", "t.py::test[a]"),
        ("t.py::test@redis", "t.py::test"),
        ("t.py::test[a@b]", "t.py::test[a@b]"),
        ("a@b/t.py::test", "a@b/t.py::test"),
    ],
)
def test_a_group_is_no_part_of_a_name(nodeid: str, name: str) -> None:
    """A test with a group would otherwise not be found the second time."""
    assert without_group(nodeid) == name
