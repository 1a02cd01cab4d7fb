"""A page of a list that begins with the newest row, and where the next one goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, Select, Text, literal, tuple_

_Item = TypeVar("_Item")


class Position(NamedTuple):
    """The place of a row in its list: its moment, or its number; and its id, for those that are equal. The id is empty
    in the position of a client that knows only the moment: rows of that moment are before it."""

    value: int
    id: str


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What a client wants: at most `limit` rows, after a position."""

    limit: int
    after: Position | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[_Item]):
    """Items, and the position after which more follow, None: there are no more."""

    items: Sequence[_Item]
    next: Position | None


def read_page(
    reader: Connection,
    query: Select[Any],
    order: tuple[ColumnElement[int], ColumnElement[str]],
    wanted: PageRequest,
    item_of: Callable[[Row[Any]], _Item],
) -> Page[_Item]:
    """Return the page of `query`, whose rows are ordered by the columns `order`, the highest first.

    The query has both columns.
    """
    value, id_ = order
    if wanted.after is not None:
        query = query.where(
            tuple_(value, id_) < tuple_(literal(wanted.after.value, BigInteger), literal(wanted.after.id, Text))
        )
    rows = reader.execute(query.order_by(value.desc(), id_.desc()).limit(wanted.limit + 1)).all()
    shown = rows[: wanted.limit]
    last = shown[-1]._mapping if len(rows) > len(shown) else None
    position = None if last is None else Position(last[value], last[id_])
    return Page([item_of(row) for row in shown], position)
