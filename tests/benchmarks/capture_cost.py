"""The duration of the steps of a capture inside the process: the figures behind the design."""

from __future__ import annotations

import json
import tempfile
import time
import timeit
import uuid
from pathlib import Path

from sluice_agent.event import Event
from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents, JobFacts
from sluice_agent.lifecycle.timestamps import timestamp
from sluice_agent.transport.journal.writer import JournalWriter
from tests.benchmarks.page import Section
from tests.benchmarks.sizes import Sizes
from tests.benchmarks.tables import Table
from tests.benchmarks.workers import Progress

_CALLS, _REPEATS = 5_000, 7


def measure(_: Sizes, progress: Progress) -> Section:
    """Measure each step in a loop."""
    rows = [[name, f"{microseconds:.2f}"] for name, microseconds in _steps()]
    for row in rows:
        progress("  ".join(row))
    return Section(
        "The steps of a capture",
        [f"In a loop in one process, the best of {_REPEATS} runs. In a worker, with cold caches, a step takes longer."],
        [Table(["step", "µs"], rows)],
    )


def seconds(_: Sizes) -> float:
    """Return about how long it takes."""
    return 5.0


def _steps() -> list[tuple[str, float]]:
    """Return the name of each step, and the best of its runs in microseconds a call."""
    connection = str(uuid.uuid4())
    facts = JobFacts(str(uuid.uuid4()), "shop.orders.charge", 1, "celery", "celery@host", 3, run_name="celery@host/1/0")
    events = JobEvents(connection, facts)
    now = timestamp(time.time())
    line = events.event(transitions.SUCCEEDED, now, started=now)
    fields = json.loads(line)
    with tempfile.TemporaryDirectory() as directory:
        journal = JournalWriter(Path(directory), 1_000_000_000)
        timed = [
            (
                "an event, as the agent makes it",
                lambda: events.event(transitions.STARTED, now, started=now),
            ),
            ("the same through the pydantic model", lambda: Event(**fields).to_json()),
            (f"an append of {len(line)} bytes to the journal", lambda: journal.append(line)),
        ]
        return [(name, min(timeit.repeat(call, number=_CALLS, repeat=_REPEATS)) / _CALLS * 1e6) for name, call in timed]
