"""The events of a job as they were received: the first and the last ones, or a page of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sluice_agent.server.pages.values import Value, ends_of, values_within
from sluice_agent.server.record.step import Step

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


def raw_events(steps: Sequence[Step], page: int | None) -> RawEvents:
    """Return a page of the events of a job, the last one if there are fewer."""
    numbered = list(enumerate(sorted(steps, key=lambda step: step.order), 1))
    pages = -(-len(numbered) // MOST_EVENTS)
    if page is None:
        shown = ends_of(numbered, MOST_EVENTS)
    else:
        page = min(page, pages)
        shown = numbered[(page - 1) * MOST_EVENTS : page * MOST_EVENTS]
    texts = values_within([("", step.event) for _, step in shown], _RAW)
    rows = [
        EventRow(number, step.state, step.event["timestamp"], text)
        for (number, step), text in zip(shown, texts, strict=True)
    ]
    return RawEvents(rows, len(numbered), page, pages)
