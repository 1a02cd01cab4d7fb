"""The duration of the steps of a capture inside the process: the figures behind the design."""

from __future__ import annotations

import json
import tempfile
import time
import timeit
import uuid
from pathlib import Path

from sluice_agent.lifecycle import transitions
from sluice_agent.lifecycle.encoding import JobEvents, JobFacts
from sluice_agent.lifecycle.timestamps import timestamp
from sluice_agent.model import Event
from sluice_agent.transport.journal.writer import JournalWriter

_CALLS = 5_000


def measure() -> list[tuple[str, float]]:
    """Return the name of each step, and the best of seven repetitions in microseconds a call."""
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
        return [(name, min(timeit.repeat(call, number=_CALLS, repeat=7)) / _CALLS * 1e6) for name, call in timed]
