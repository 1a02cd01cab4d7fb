"""What the server takes of events over a PostgreSQL on the same machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg

from tests.benchmarks import server_ingest
from tests.support.postgresql import PostgresqlServer, new_database


def rows(seconds: float = 60.0, clients: tuple[int, ...] = (1, 4)) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each row of the table. `seconds` are of each measurement."""
    for number, cost in measurements(seconds, clients):
        yield from server_ingest.rows_of("ingest on PostgreSQL", number, cost)


def measurements(seconds: float, clients: tuple[int, ...]) -> Iterator[tuple[int, server_ingest.Cost]]:
    """Yield what ingest costs for each number of `clients`."""
    with tempfile.TemporaryDirectory() as directory:
        server = PostgresqlServer(Path(directory), settings={})  # as it is set by default: commits are flushed
        try:
            for number in clients:
                with new_database(server.port) as address:
                    yield number, server_ingest.measure(number, seconds, address, partial(_size, address))
        finally:
            server.close()


def _size(address: str) -> int:
    with psycopg.connect(address) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return int(row[0]) if row else 0
