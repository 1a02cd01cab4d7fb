"""What `import sluice_agent` and `install()` cost in a process that has Celery loaded."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.page import Section
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.workers import Progress
from tests.support.process import ROOT

# Without the collector: its oldest generation takes 20 ms, and which of the two steps it falls into is chance.
_SCRIPT = """
import gc, sys, time
import psutil
gc.disable()
from celery import Celery, signals
import celery.app.trace, celery.worker.request, celery.backends.base
process, modules = psutil.Process(), len(sys.modules)
memory = process.memory_full_info().uss
started = time.process_time()
import sluice_agent
imported = time.process_time()
sluice_agent.install()
installed = time.process_time()
grown = process.memory_full_info().uss - memory
print((imported - started) * 1e3, (installed - imported) * 1e3, len(sys.modules) - modules, grown / 1e6)
"""
_SECONDS = 1.2


@dataclass(frozen=True, slots=True)
class ImportCost:
    """Milliseconds of CPU of both steps, and the modules and megabytes that they bring."""

    importing: float
    installing: float
    modules: float
    megabytes: float


def measure_once(directory: Path, environment: Mapping[str, str]) -> ImportCost:
    """Import the agent once, in a process with this environment."""
    variables = {
        **environment,
        "PYTHONDONTWRITEBYTECODE": "",  # it is written where a package is installed
        "SLUICE_API_KEY": "sk_bench",
        "SLUICE_CONNECTION_ID": str(uuid.UUID(int=1)),
        "SLUICE_SHIP": "never",
        "SLUICE_STATE_DIR": str(directory),
    }
    command = [sys.executable, "-c", _SCRIPT]
    output = subprocess.run(command, cwd=directory, env=variables, check=True, capture_output=True, text=True).stdout
    return ImportCost(*map(float, output.split()))


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Import it in several processes."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    with tempfile.TemporaryDirectory() as name:
        environment = {**clean, "PYTHONPATH": str(ROOT)}
        measure_once(Path(name), environment)  # writes the byte code
        costs = [measure_once(Path(name), environment) for _ in range(sizes.imports)]
    rows = [
        _row("`import sluice_agent`, ms of CPU", [cost.importing for cost in costs], 1),
        _row("`install()`, ms of CPU", [cost.installing for cost in costs], 1),
        _row("modules that both bring", [cost.modules for cost in costs], 0),
        _row("memory of the process alone that both bring, MB", [cost.megabytes for cost in costs], 1),
    ]
    for row in rows:
        progress("  ".join(row))
    return Section(
        "Import",
        [f"In a process that has imported Celery, without Python's collector; {sizes.imports} processes."],
        [Table(["step", "minimum", "median", "maximum"], rows)],
    )


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    return (sizes.imports + 1) * _SECONDS


def _row(name: str, values: list[float], digits: int) -> list[str]:
    return [name, *(f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))]
