"""What `import sluice_agent` and `install()` cost in a process that has Celery loaded."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks.page import Section
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.variants import AGENT
from tests.benchmarks.workers import Progress
from tests.support.process import ROOT

# Without the collector: its oldest generation takes 20 ms, and which of the two steps it falls into is chance.
_SCRIPT = r"""
import gc, re, sys, time
from pathlib import Path
gc.disable()
def private_bytes():
    return 1024 * sum(map(int, re.findall(r"Private_\w+: +(\d+)", Path("/proc/self/smaps_rollup").read_text())))
from celery import Celery, signals
import celery.app.trace, celery.worker.request, celery.backends.base
modules, memory = len(sys.modules), private_bytes()
started = time.process_time()
import sluice_agent
imported = time.process_time()
sluice_agent.install()
installed = time.process_time()
grown = private_bytes() - memory
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


def measure_once(directory: Path, environment: Mapping[str, str], python: str, ship: str = "auto") -> ImportCost:
    """Import the agent once, in a process of `python` with this environment; `ship` is the setting `SLUICE_SHIP`."""
    variables = {
        **environment,
        "PYTHONDONTWRITEBYTECODE": "",  # it is written where a package is installed
        "SLUICE_API_KEY": "sk_bench",
        "SLUICE_CONNECTION_ID": str(uuid.UUID(int=1)),
        "SLUICE_SHIP": ship,
        "SLUICE_STATE_DIR": str(directory),
    }
    command = [python, "-c", _SCRIPT]
    output = subprocess.run(command, cwd=directory, env=variables, check=True, capture_output=True, text=True).stdout
    return ImportCost(*map(float, output.split()))


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Import it in several processes."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    with tempfile.TemporaryDirectory() as name:
        environment = {**clean, "PYTHONPATH": str(ROOT)}
        # In the agent's venv: where rich is installed, httpx imports it.
        measured = partial(measure_once, Path(name), environment, AGENT.python)
        measured()  # writes the byte code
        ships, never = ([measured(ship) for _ in range(sizes.imports)] for ship in ("auto", "never"))
    steps: list[tuple[str, Callable[[ImportCost], float], int]] = [
        ("`import sluice_agent`, ms of CPU", lambda cost: cost.importing, 1),
        ("`install()`, ms of CPU", lambda cost: cost.installing, 1),
        ("modules that both bring", lambda cost: cost.modules, 0),
        ("memory of the process alone that both bring, MB", lambda cost: cost.megabytes, 1),
    ]
    rows = [_row(name, [list(map(of, costs)) for costs in (ships, never)], digits) for name, of, digits in steps]
    for row in rows:
        progress("  ".join(row))
    return Section(
        "Import",
        [
            (
                f"In a process that has imported Celery, without Python's collector; {sizes.imports} processes. A "
                "process that may ship imports httpx; with SLUICE_SHIP=never another process ships."
            )
        ],
        [Table(["step", "minimum", "median", "maximum", "median with SLUICE_SHIP=never"], rows)],
    )


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    return (2 * sizes.imports + 1) * _SECONDS


def _row(name: str, values: Sequence[Sequence[float]], digits: int) -> list[str]:
    ships, never = values
    shown = (min(ships), statistics.median(ships), max(ships), statistics.median(never))
    return [name, *(f"{value:.{digits}f}" for value in shown)]
