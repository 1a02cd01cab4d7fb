"""The producer's part: `python -m tests.integration.outcomes.send <pool> <broker> <wave>` sends rows of the table."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import celery

from tests.integration.outcomes.rows import ROWS
from tests.integration.outcomes.table import Outcome, Version

WAVES = ("without agent", "first", "blocking")
"""Blocking rows come last: a solo worker receives nothing while it runs one."""


def main() -> None:
    """Print the id of each row's job, by the row's name."""
    from tests.integration.outcomes.app import app

    app.set_default()  # for the threads below
    pool, broker, wave = sys.argv[1:]
    rows = [row for row in possible_rows(pool, broker) if wave_of(row) == wave]
    with ThreadPoolExecutor(8) as threads:
        sent = dict(zip([row.name for row in rows], threads.map(lambda row: row.send(), rows), strict=True))
    print(json.dumps(sent))


def possible_rows(pool: str, broker: str) -> list[Outcome]:
    """Return the rows that can happen in `pool` on `broker` under this Celery version."""
    return [row for row in ROWS if row.walk(pool, version(), broker) is not None]


def wave_of(row: Outcome) -> str:
    """Return the wave that a row is sent in."""
    if row.without_agent:
        return "without agent"
    return "blocking" if row.blocks else "first"


def version() -> Version:
    """Return Celery's version as numbers."""
    return tuple(int(part) for part in celery.__version__.split(".")[:2])


if __name__ == "__main__":
    main()
