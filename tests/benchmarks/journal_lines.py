"""Lines of a journal as an agent writes them: three events for each job.

`python -m tests.benchmarks.journal_lines DIRECTORY EVENTS MAX_BYTES` waits for a line on standard input, appends the
events as one writer and prints the microseconds of CPU that an append took.
"""

from __future__ import annotations

import itertools
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents, JobFacts
from sluice_agent.lifecycle.timestamps import timestamp
from sluice_agent.transport.journal.writer import JournalWriter

_CHUNK = 1_000


def lines(connection: str) -> Iterator[bytes]:
    """Yield the events of one job after the other, without an end."""
    while True:
        facts = JobFacts(
            str(uuid.uuid4()), "shop.orders.charge", 1, "celery", "celery@host", 3, run_name="celery@host/1/0"
        )
        events = JobEvents(connection, facts)
        now = timestamp(time.time())
        yield events.event(transitions.QUEUED, now)
        yield events.event(transitions.STARTED, now, started=now)
        yield events.event(transitions.SUCCEEDED, now, started=now)


def append(directory: Path, count: int, max_bytes: int) -> float:
    """Append events to the journal in `directory`, which is named like its connection."""
    journal = JournalWriter(directory, max_bytes)
    made, spent = lines(directory.name), 0.0
    for first in range(0, count, _CHUNK):
        chunk = list(itertools.islice(made, min(_CHUNK, count - first)))
        started = time.process_time()
        for line in chunk:
            journal.append(line)
        spent += time.process_time() - started
    journal.close()
    if journal.unwritten:
        raise RuntimeError(f"the journal refused events: {dict(journal.unwritten)}")
    return spent / count * 1e6


if __name__ == "__main__":
    sys.stdin.readline()
    print(append(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
