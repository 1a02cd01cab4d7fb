"""The processor time of a process and its children, as the kernel's scheduler accounts it."""

from __future__ import annotations

from pathlib import Path

import psutil


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]


def cpu_microseconds(pid: int) -> float:
    """Return the time that all threads of the tree have used, in microseconds, from /proc's schedstat (nanoseconds)."""
    total = 0
    for process in tree(pid):
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1_000
