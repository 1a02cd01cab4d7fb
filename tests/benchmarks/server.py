"""The server's table: a row for each thing that was promised. A part is one more entry in `_PARTS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.benchmarks import server_ingest, server_postgresql, server_reads, server_stream

Rows = Iterator[tuple[str, str]]

_PARTS: tuple[Callable[[float], Rows], ...] = (server_ingest.rows, server_postgresql.rows, server_stream.rows)
"""What yields rows, given the seconds of each measurement."""


def rows(seconds: float, jobs: int) -> Rows:
    """Yield the name and the text of each row, as soon as it is measured. Reads are measured with so many `jobs`."""
    for part in _PARTS:
        yield from part(seconds)
    yield from server_reads.rows(jobs)
