"""The server's table: a row for each thing that was promised. A part is one more entry in `_PARTS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.benchmarks import server_ingest, server_postgresql, server_reads, server_stream
from tests.benchmarks.page import Section
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.workers import Progress

Rows = Iterator[tuple[str, str]]

_PARTS: tuple[Callable[[float], Rows], ...] = (server_ingest.rows, server_postgresql.rows, server_stream.rows)
"""What yields rows, given the seconds of each measurement."""
_MEASUREMENTS, _START_SECONDS, _READS_SECONDS, _JOB_SECONDS = 7, 5.0, 60.0, 0.0003


def measure(sizes: Sizes, progress: Progress) -> Section:
    """Measure ingest, the stream, and reads."""
    rows = []
    for name, text in _rows(sizes):
        progress(f"{name}: {text}")
        rows.append([name, text])
    return Section(
        "The server",
        [
            (
                f"`sluice-agent serve` with its clients on the same machine, {sizes.seconds:g} s each; reads with "
                f"{sizes.jobs:,} jobs in SQLite. A row of reads has the wall time of its requests as a client sees it."
            ),
            (
                "Below each measurement of ingest is the speed of the machine before and after it, by two fixed pieces "
                "of work, a loop in Python and 1,000 inserts into SQLite in memory, and how many events the rate is in "
                "the least time of each: figures of different hours can be compared by these ratios."
            ),
        ],
        [Table(["measured", "figures"], rows, has_numbers=False)],
    )


def seconds(sizes: Sizes) -> float:
    """Return about how long it takes."""
    return _MEASUREMENTS * (sizes.seconds + _START_SECONDS) + _READS_SECONDS + sizes.jobs * _JOB_SECONDS


def _rows(sizes: Sizes) -> Rows:
    for part in _PARTS:
        yield from part(sizes.seconds)
    yield from server_reads.rows(sizes.jobs)
