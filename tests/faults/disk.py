"""A small disk that a test can fill."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


class Disk:
    """A disk in memory, of `size` bytes, mounted at `path`. Only root can mount one."""

    def __init__(self, path: Path, size: int, options: str = "nr_inodes=10000") -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "-o", f"size={size},mode=700,{options}", "tmpfs", str(path))

    def fill(self) -> None:
        """Fill the disk to the last byte."""
        with (self.path / "filler").open("ab", buffering=0) as file:
            for size in (65_536, 4_096, 1):
                while True:
                    try:
                        file.write(bytes(size))
                    except OSError:
                        break

    def empty(self) -> None:
        """Free the space again."""
        (self.path / "filler").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)

    def _mount(self, *arguments: str) -> None:
        result = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"no disk can be mounted here: {result.stderr.strip()}")
