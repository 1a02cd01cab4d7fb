"""The instructions of a no-op task, as valgrind's cachegrind counts them: a noisy machine gets the same figure.

The difference of two runs with different numbers of tasks leaves out start and end. The kernel's part is not counted,
nothing is shipped, no heartbeat is sent, and garbage is not collected: a few of either, which cost as much as dozens of
tasks each, would decide about the difference.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.page import Section
from tests.benchmarks.plots import Bar, Plot
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.variants import AGENT, BARE, SIGNALS, Variant
from tests.benchmarks.workers import Progress
from tests.support.process import ROOT

_VARIANTS = (BARE, SIGNALS, AGENT)
_FIRST_TASKS = 100
_CACHES = ("--I1=65536,8,64", "--D1=49152,12,64", "--LL=33554432,16,64")
_COUNTS = {"instructions": r"I\s+refs:\s+([\d,]+)", "misses": r"I1\s+misses:\s+([\d,]+)"}
_START_SECONDS, _TASK_SECONDS = 25.0, 0.05


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a task: instructions, and misses of a first-level cache of instructions of 64 kB."""

    instructions: float
    misses: float


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Count the instructions of each variant, or leave it out where valgrind is absent."""
    title = "Instructions of a no-op task"
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return Section(title, ["Left out: valgrind is not installed. As root: `sh scripts/valgrind.sh`"])
    counts = {}
    for variant in _VARIANTS:
        counts[variant.name] = count = _count(valgrind, variant, sizes.instructed_tasks)
        progress(f"{variant.name}: {count.instructions:,.0f} instructions, {count.misses:,.0f} misses a task")
    bare = counts[BARE.name]
    rows = [
        [
            name,
            *(f"{count.instructions:,.0f}", f"{count.instructions - bare.instructions:+,.0f}"),
            *(f"{count.misses:,.0f}", f"{count.misses - bare.misses:+,.0f}"),
        ]
        for name, count in counts.items()
    ]
    return Section(
        title,
        [
            (
                f"Counted by cachegrind for a fixed script: a process publishes "
                f"{_FIRST_TASKS + sizes.instructed_tasks:,} "
                f"tasks in memory and runs them in Celery's solo pool, less the same with {_FIRST_TASKS:,}. Nothing is "
                "shipped, no heartbeat is sent, the garbage collector is off, and the kernel's part is not counted. "
                "Misses are those of a "
                "first-level cache of 64 kB."
            )
        ],
        [Table(["a task", "instructions", "more than bare", "misses of I1", "more than bare"], rows)],
        [
            Plot(
                "added",
                "Instructions that a no-op task costs more",
                "thousand instructions more than bare",
                [
                    Bar(name, (count.instructions - bare.instructions) / 1e3)
                    for name, count in counts.items()
                    if name != BARE.name
                ],
            )
        ],
    )


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    return len(_VARIANTS) * (2 * _START_SECONDS + (2 * _FIRST_TASKS + sizes.instructed_tasks) * _TASK_SECONDS)


def _count(valgrind: str, variant: Variant, tasks: int) -> Counts:
    few, many = (_run(valgrind, variant, number) for number in (_FIRST_TASKS, _FIRST_TASKS + tasks))
    return Counts(*((many[name] - few[name]) / tasks for name in _COUNTS))


def _run(valgrind: str, variant: Variant, tasks: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "valgrind.log"
        command = [valgrind, "--tool=cachegrind", "--cache-sim=yes", *_CACHES, f"--log-file={log}"]
        command += [f"--cachegrind-out-file={os.devnull}", variant.python, "-m", "tests.benchmarks.fixed_script"]
        environment = {
            **variant.variables("http://127.0.0.1:9"),
            "BROKER_URL": "memory://",
            "PYTHONHASHSEED": "0",
            "SLUICE_CONNECTION_ID": str(uuid.UUID(int=1)),
            "SLUICE_HEARTBEAT_INTERVAL": "0",
            "SLUICE_SHIP": "never",
            "SLUICE_STATE_DIR": directory,
        }
        subprocess.run([*command, str(tasks)], cwd=ROOT, env=environment, check=True, capture_output=True)
        text = log.read_text(encoding="utf-8")
    counts = {name: re.search(pattern, text) for name, pattern in _COUNTS.items()}
    return {name: int(match[1].replace(",", "")) for name, match in counts.items() if match is not None}
