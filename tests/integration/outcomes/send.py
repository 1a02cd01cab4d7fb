"""The producer's part: `python -m tests.integration.outcomes.send <pool> <broker> <producer>` sends a table's rows."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import celery

from tests.integration.outcomes.rows import ROWS
from tests.integration.outcomes.table import Outcome, Version

PRODUCERS = ("without agent", "with agent")


def main() -> None:
    """Print the id of each row's job, by the row's name."""
    from tests.integration.outcomes.app import app

    app.set_default()  # for the threads below
    pool, broker, producer = sys.argv[1:]
    rows = [row for row in possible_rows(pool, broker) if producer_of(row) == producer]
    sent: dict[str, str] = {}
    with ThreadPoolExecutor(8) as threads:
        for blocks in (False, True):  # such rows come last: a solo worker receives nothing while it runs one
            wave = [row for row in rows if row.blocks == blocks]
            sent |= zip([row.name for row in wave], threads.map(lambda row: row.send(), wave), strict=True)
    print(json.dumps(sent))


def possible_rows(pool: str, broker: str) -> list[Outcome]:
    """Return the rows that can happen in `pool` on `broker` under this Celery version."""
    return [row for row in ROWS if row.walk(pool, version(), broker) is not None]


def producer_of(row: Outcome) -> str:
    """Return which of `PRODUCERS` sends the row."""
    return PRODUCERS[0] if row.without_agent else PRODUCERS[1]


def version() -> Version:
    """Return Celery's version as numbers."""
    return tuple(int(part) for part in celery.__version__.split(".")[:2])


if __name__ == "__main__":
    main()
