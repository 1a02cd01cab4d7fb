"""The producer's side: `python -m tests.integration.outcomes.send <pool> <broker> <wave>` sends rows of the table."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import celery

from tests.integration.outcomes.rows import ROWS
from tests.integration.outcomes.table import Outcome, Version

WAVES = ("bare", "first", "blocking")
"""`bare` runs without the agent. What blocks comes last: a solo worker hears nothing while it runs."""


def main() -> None:
    """Print the id of each row's job, by the row's name."""
    from tests.integration.outcomes.app import app

    app.set_default()  # for the threads below
    pool, broker, wave = sys.argv[1:]
    rows = [row for row in able(pool, broker) if wave_of(row) == wave]
    with ThreadPoolExecutor(8) as threads:
        sent = dict(zip([row.name for row in rows], threads.map(lambda row: row.send(), rows), strict=True))
    print(json.dumps(sent))


def able(pool: str, broker: str) -> list[Outcome]:
    """The rows that can happen in `pool` on `broker` under this Celery."""
    return [row for row in ROWS if row.walk(pool, version(), broker) is not None]


def wave_of(row: Outcome) -> str:
    """When, and by whom, a row is sent."""
    if row.bare:
        return "bare"
    return "blocking" if row.blocks else "first"


def version() -> Version:
    """Celery's, as numbers."""
    return tuple(int(part) for part in celery.__version__.split(".")[:2])


if __name__ == "__main__":
    main()
