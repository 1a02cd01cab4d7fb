"""Two versions of the package, a commit and the files of this checkout, in separate directories.

Both are copies, so that they are imported from paths of the same length and kind, and that files may be edited during
the measurement. Tests, benchmarks and dependencies are those of this checkout for both.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.process import ROOT

_PACKAGE = "sluice_agent"


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the package. `directory` contains only the package."""

    name: str
    directory: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a process that imports this version; it must not run in this checkout's directory."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
        return {**clean, "PYTHONPATH": os.pathsep.join((str(self.directory), str(ROOT)))}


def old_and_new(revision: str, directory: Path) -> tuple[Version, Version]:
    """Copy the package at `revision`, and that of this checkout, into `directory`; return both.

    Raise ValueError if git has no such revision, or the revision has no package.
    """
    old, new = Version(revision, directory / "old"), Version("this checkout", directory / "new")
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", revision, _PACKAGE]
    archive = subprocess.run(command, capture_output=True, check=False)
    if archive.returncode:
        raise ValueError(f"--compare {revision}: {archive.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(old.directory, filter="data")
    shutil.copytree(ROOT / _PACKAGE, new.directory / _PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    return old, new
