"""A database that is filled with jobs of seven days, and a server over it in a process of its own.

``python -m tests.benchmarks.filled_server DATABASE [SECONDS]`` serves a file, or a database of PostgreSQL, that was
filled by this module: at the moment at which its data ends, or with a clock that is so many seconds behind the
machine's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from sqlalchemy import select

from sluice_agent.server.store.database import Database, open_database
from sluice_agent.server.store.schema import job
from tests.benchmarks.served import Served
from tests.support.server_data import NOW, fill

_LOOKED_UP = 100  # jobs whose ids are returned
_WITH_STEPS = 50_000  # jobs at most


def fill_database(database: Database, jobs: int) -> list[str]:
    """Fill the database, and return the external ids of some jobs in it, whose records can be read."""
    engine = open_database(database)
    every = max(1, jobs // _WITH_STEPS)
    numbers = range(every, jobs, max(every, jobs // _LOOKED_UP // every * every))
    with engine.connect().execution_options(writing=True) as writer, writer.begin():
        fill(writer, jobs, steps_every=every)
        some = list(writer.scalars(select(job.c.external_id).where(job.c.number.in_(numbers))))
    engine.dispose()
    return some


def end_of_data() -> datetime:
    """Return the moment at which the data ends."""
    return datetime.fromtimestamp(NOW / 1_000_000, timezone.utc)


@contextmanager
def filled_server(database: Database, behind: timedelta | None = None) -> Iterator[Served]:
    """Run a server over `database`. Its clock stands still at the end of the data, or is `behind` the machine's."""
    command = [sys.executable, "-m", __name__, str(database)]
    command += [] if behind is None else [str(behind.total_seconds())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Served(process.pid, process.stdout.readline().strip())
        finally:
            process.kill()


def _serve(database: Database, behind: timedelta | None) -> None:
    from sluice_agent.server.runner import limit_collections
    from tests.support.local_sluice import LocalSluice

    now = end_of_data if behind is None else lambda: datetime.now(timezone.utc) - behind
    server = LocalSluice(database, now=now, has_jobs=True)
    limit_collections()
    print(f"{server.url}/api", flush=True)
    server.join()


if __name__ == "__main__":
    _behind = timedelta(seconds=float(sys.argv[2])) if len(sys.argv) > 2 else None
    _serve(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1]), _behind)
