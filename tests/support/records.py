"""The record of a job, as the server derives it from events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sluice_agent.server.record.record import Record, record_of
from sluice_agent.server.record.step import Step, step_of


def steps_of(events: Iterable[dict[str, Any]]) -> Iterator[Step]:
    """Return the steps in a job's `events`. Equal events have equal keys."""
    return (step_of(event, json.dumps(event, sort_keys=True).encode()) for event in events)


def record_of_events(events: Iterable[dict[str, Any]]) -> Record:
    """Return the record of the job whose events are `events`."""
    return record_of(steps_of(events))
