"""The orders in which jobs are listed, and a job's sort_key in one of them.

Jobs whose value is unknown come last in either direction. Equal ones are in the order of their creation, or, where the
value is a time, of their arrival.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Column, Connection

from sluice_agent.server.errors import RefusedError
from sluice_agent.server.queries.labels import texts_of
from sluice_agent.server.queries.sorting import SortBy, SortOrder
from sluice_agent.server.store.codes import JOB_STATES
from sluice_agent.server.store.schema import LabelKind, job

_INTEGERS = range(-(2**63), 2**63)  # the range of an integer column
_CURSOR_DETAILS = {"cursor": "not a nextCursor of a list with this sortBy and sortOrder"}


_COLUMNS: dict[SortBy, Column[Any]] = {
    SortBy.CREATED_AT: job.c.created_at,
    SortBy.STATE_CHANGED_AT: job.c.changed_at,
    SortBy.STARTED_AT: job.c.started_at,
    SortBy.COMPLETED_AT: job.c.completed_at,
    SortBy.DURATION_MS: job.c.duration_ms,
    SortBy.NAME: job.c.name,
    SortBy.QUEUE: job.c.queue,
    SortBy.STATE: job.c.state,
    SortBy.WORKER: job.c.worker,
}
_KINDS = {SortBy.NAME: LabelKind.NAME, SortBy.QUEUE: LabelKind.QUEUE, SortBy.WORKER: LabelKind.WORKER}


class SortKey(NamedTuple):
    """The value by which a job is sorted, a text itself rather than its number; the job's creation, and its number."""

    value: int | str | None
    created_at: int
    number: int


_Rank: TypeAlias = Callable[[SortKey], Any]
_RANK_OF_TEXT: _Rank = itemgetter(0, 1, 2)
_RANK_OF_VALUE: _Rank = itemgetter(0, 2)
_RANK_OF_UNKNOWN: _Rank = itemgetter(1, 2)


@dataclass(frozen=True, slots=True)
class Order:
    """A sort field and a direction."""

    by: SortBy
    direction: SortOrder

    @property
    def column(self) -> Column[Any]:
        """The column with the value, or with its number."""
        return _COLUMNS[self.by]

    @property
    def kind(self) -> LabelKind | None:
        """The kind of the label whose text is the value; None for others."""
        return _KINDS.get(self.by)

    @property
    def is_textual(self) -> bool:
        """True if the value is a text that stands for a number in the column."""
        return self.by in _KINDS or self.by is SortBy.STATE

    @property
    def is_descending(self) -> bool:
        """True if the largest value comes first."""
        return self.direction is SortOrder.DESC

    def mirrored(self) -> Order:
        """Return the order in the other direction."""
        return Order(self.by, SortOrder.ASC if self.is_descending else SortOrder.DESC)

    def sorted(self, keys: Iterable[SortKey], after: SortKey | None) -> list[SortKey]:
        """Return those of `keys` that come after a sort key, in this order."""
        known: list[SortKey] = []
        unknown: list[SortKey] = []
        for sort_key in keys:
            (unknown if sort_key[0] is None else known).append(sort_key)
        if after is None:
            return self._ordered(known, self._rank) + self._ordered(unknown, _RANK_OF_UNKNOWN)
        if after.value is None:
            return self._ordered(self._after(unknown, after, _RANK_OF_UNKNOWN), _RANK_OF_UNKNOWN)
        rest = self._ordered(self._after(known, after, self._rank), self._rank)
        return rest + self._ordered(unknown, _RANK_OF_UNKNOWN)

    @property
    def _rank(self) -> _Rank:
        """Returns what is compared of keys that have a value."""
        return _RANK_OF_TEXT if self.is_textual else _RANK_OF_VALUE

    def _ordered(self, keys: list[SortKey], rank: _Rank) -> list[SortKey]:
        return sorted(keys, key=rank, reverse=self.is_descending)

    def _after(self, keys: Iterable[SortKey], after: SortKey, rank: _Rank) -> list[SortKey]:
        last = rank(after)
        if self.is_descending:
            return [sort_key for sort_key in keys if rank(sort_key) < last]
        return [sort_key for sort_key in keys if rank(sort_key) > last]

    def encode(self, value: int | None, sort_key: SortKey) -> str:
        """Return the cursor of the page after `sort_key`, with `value` of the column, as a text may be too long."""
        content = json.dumps([self.by.value, self.direction.value, value, sort_key.created_at, sort_key.number])
        return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")

    def decode(self, reader: Connection, cursor: str) -> SortKey:
        """Return the sort_key in `cursor`. Raises `RefusedError` (400) if it is not one of a list in this order."""
        try:
            by, direction, value, *sort_key = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
            numbers = [*sort_key, 0 if value is None else value]
            if (
                (by, direction) == (self.by.value, self.direction.value)
                and all(type(number) is int and number in _INTEGERS for number in numbers)
                and (value is not None or self.column.nullable)
            ):
                created_at, number = sort_key
                return SortKey(self._text(reader, value) if self.is_textual else value, created_at, number)
        except (ValueError, TypeError, LookupError, RecursionError):
            pass
        raise RefusedError(400, "The cursor does not belong to this list.", _CURSOR_DETAILS)

    def _text(self, reader: Connection, value: int | None) -> str | None:
        """Return the text that `value` of the column stands for. Raises `LookupError` if there is none."""
        if value is None:
            return None
        return texts_of(reader, [value])[value] if self.kind else JOB_STATES[value].value
