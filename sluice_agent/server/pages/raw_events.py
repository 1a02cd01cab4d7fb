"""The events of a job as they were received: the first and the last ones, or a page of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sluice_agent.server.pages.values import Value, values_within
from sluice_agent.server.queries.job_steps import JobSteps

MOST_EVENTS = 200
"""Events that are shown: without a page, the first half and the last half of these."""

_RAW = 200_000  # characters of all events that are shown


class EventRow(NamedTuple):
    """An event as it was received: its number in the order of the history, its state and time, and its JSON."""

    number: int
    state: str
    timestamp: str
    json: Value


class RawEvents(NamedTuple):
    """The events that are shown, of `total`; `page`, of `pages`, is None if they are the first and the last ones."""

    rows: Sequence[EventRow]
    total: int
    page: int | None
    pages: int


def raw_events(steps: JobSteps, page: int | None) -> RawEvents:
    """Return a page of the events of a job, the last one if there are fewer."""
    total, half = steps.total, MOST_EVENTS // 2
    pages = -(-total // MOST_EVENTS)
    if page is not None:
        page = min(page, pages)
        shown = steps.numbered((page - 1) * MOST_EVENTS, min(page * MOST_EVENTS, total))
    elif total > MOST_EVENTS:
        shown = [*steps.numbered(0, half), *steps.numbered(total - half, total)]
    else:
        shown = steps.numbered(0, total)
    texts = values_within([("", step.event) for _, step in shown], _RAW)
    rows = [
        EventRow(number, step.state, step.event["timestamp"], text)
        for (number, step), text in zip(shown, texts, strict=True)
    ]
    return RawEvents(rows, total, page, pages)
