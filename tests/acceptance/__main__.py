"""`make acceptance`: measures what was promised of the server, and ends with a table; the exit code is 1 for one "no".

ARGS=--small takes four minutes, and shows only that everything runs: its figures are of small sizes. ARGS="--parts
stream,faults" measures parts.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.acceptance.demands import CHECKS, DEMANDS
from tests.benchmarks import server_ingest, server_postgresql, server_reads, server_stream


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. `faults` is the value of the variable FAULTS."""

    seconds: float = 60.0
    progress: int = 10_000
    jobs: int = 1_000_000
    readers: int = 500
    faults: str = "long"


SMALL = Sizes(seconds=6.0, progress=1_000, jobs=5_000, readers=50, faults="usual")


class Row(NamedTuple):
    """A row of the table."""

    subject: str
    demanded: str
    measured: str
    is_met: bool


def ingest(sizes: Sizes) -> Iterator[Row]:
    """Measure ingest into SQLite."""
    one = server_ingest.measure(1, sizes.seconds)
    yield _row("sqlite rate", one.rate)
    yield _row("sqlite steadiness", one.last_rate / one.first_rate)
    yield _row("sqlite size", one.size)
    yield _row("sqlite memory", one.memory / 1e6)
    many = server_ingest.measure(50, sizes.seconds)
    yield _row("many rate", many.rate / one.rate)
    yield _row("many memory", many.memory / 1e6)
    yield _row("many health", many.health)
    first, last = server_ingest.measure_progress(sizes.progress)
    yield _row("progress", last / first)


def postgresql(sizes: Sizes) -> Iterator[Row]:
    """Measure ingest into PostgreSQL."""
    for clients, cost in server_postgresql.measurements(sizes.seconds, (1, 4)):
        note = f"{clients} clients" if clients > 1 else "one client"
        yield _row("postgresql rate", cost.rate, note)
        yield _row("postgresql size", cost.size, note)
        yield _row("postgresql memory", cost.memory / 1e6, note)


def reads(sizes: Sizes) -> Iterator[Row]:
    """Measure lists and records."""
    for store in server_reads.STORES:
        for name, times in server_reads.measurements(sizes.jobs, 3, store=store):
            if name == "health":
                continue
            yield _row("job" if name == "a job" else "list", times.p95, f"{store}, {sizes.jobs:,} jobs, {name}")


def stream(sizes: Sizes) -> Iterator[Row]:
    """Measure the stream."""
    seconds = max(sizes.seconds, DEMANDS["frozen gone"].most or 0)
    usual = server_stream.measure(server_stream.Load(sizes.readers, seconds=sizes.seconds))
    note = f"{sizes.readers} readers"
    yield _row("stream cpu", usual.core * 100, note)
    yield _row("stream delay", usual.p99, note)
    yield _row("stream delivery", usual.deliveries * 100, note)
    frozen = server_stream.measure(server_stream.Load(sizes.readers, frozen=50, seconds=seconds))
    yield _row("frozen gone", math.inf if frozen.gone_after is None else frozen.gone_after, note)
    yield _row("frozen batch", frozen.batch_ms / usual.batch_ms, note)


def faults(sizes: Sizes) -> Iterator[Row]:
    """Run the tests of faults."""
    for subject, tests in CHECKS.items():
        yield _passed(subject, [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests], sizes.faults)


def demo(sizes: Sizes) -> Iterator[Row]:
    """Run the demonstration, which checks itself."""
    yield _passed("make demo", [sys.executable, "-m", "examples.demo"], sizes.faults)


def readme(sizes: Sizes) -> Iterator[Row]:
    """Run the pages that a new user reads."""
    yield _passed("the quick start", [sys.executable, "-m", "tests.acceptance.readme"], sizes.faults)


_SUMMARY = re.compile(r"^\d+ (passed|failed|skipped|error).*$", re.MULTILINE)  # pytest's last line

PARTS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
    part.__name__: part for part in (ingest, postgresql, reads, stream, faults, demo, readme)
}


def _row(key: str, value: float, note: str = "") -> Row:
    demand = DEMANDS[key]
    subject = f"{demand.subject} ({note})" if note else demand.subject
    return Row(subject, demand.text, demand.show(value), demand.is_met(value))


def _passed(subject: str, command: list[str], faults: str) -> Row:
    """Run a command; a test that was skipped has shown nothing."""
    environment = {**os.environ, "FAULTS": faults, **({"EXAMPLES": "full"} if faults == "long" else {})}
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if run.returncode:
        print(run.stdout, flush=True)
    summary = _SUMMARY.search(run.stdout)
    measured = summary[0] if summary else f"exit code {run.returncode}"
    return Row(subject, "passes", measured, not run.returncode and "skipped" not in measured)


def table(rows: list[Row]) -> str:
    """Return the rows as text."""
    lines = [("", "demanded", "measured", "ok")]
    lines += [(row.subject, row.demanded, row.measured, "yes" if row.is_met else "no") for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    """Measure, and print the table."""
    options = argparse.ArgumentParser(prog="make acceptance")
    options.add_argument("--small", action="store_true", help="small sizes: shows that it runs, and no more")
    options.add_argument("--parts", default=",".join(PARTS), help="comma-separated; default: all, %(default)s")
    args = options.parse_args()
    parts = args.parts.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        options.error(f"--parts {','.join(unknown)}: there are {', '.join(PARTS)}")
    rows: list[Row] = []
    for part in parts:
        for row in PARTS[part](SMALL if args.small else Sizes()):
            print(f"  {row.subject}: {row.measured}", flush=True)
            rows.append(row)
    print(f"\n{table(rows)}")
    sys.exit(not all(row.is_met for row in rows))


if __name__ == "__main__":
    main()
