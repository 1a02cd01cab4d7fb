"""Ranges of an index of jobs, and the statements that read them: on PostgreSQL one for many ranges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Connection, Integer, Select, bindparam, func, literal_column, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import visitors

from sluice_agent.server.queries.conditions import Condition
from sluice_agent.server.store.schema import job


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges of an index, one for each of `parameters`, which are the values that `conditions` on its first columns
    name."""

    conditions: Sequence[Condition]
    parameters: Sequence[Mapping[str, Any]]

    def parts(self, reader: Connection, first: int = 0) -> Iterator[Part]:
        """Yield the ranges as a statement can read them: the `first` ones each for itself, the others in one; SQLite,
        which has no lateral joins and answers within the process, reads each for itself."""
        if reader.dialect.name != "postgresql":
            first = len(self.parameters)
        for parameters in self.parameters[:first]:
            yield Part(parameters, (parameters,))
        others = self.parameters[first:]
        if len(others) == 1:
            yield Part(others[0], others)
        elif others:
            yield Part({name: [of_range[name] for of_range in others] for name in others[0]}, others)


class Part(NamedTuple):
    """Ranges that one statement reads: the parameters of that, and those of each range."""

    values: Mapping[str, Any]
    ranges: Sequence[Mapping[str, Any]]

    def select(self, statement: Select[Any], limit: BindParameter[int] | None = None) -> Select[Any]:
        """Return the statement that selects, in each range, what `statement` does, and at most `limit` rows in all."""
        if len(self.ranges) == 1:
            return statement
        named = {part.key: part for part in visitors.iterate(statement) if isinstance(part, BindParameter)}
        arrays = {name: bindparam(name, type_=ARRAY(named[name].type)) for name in self.values if name in named}
        ranges = func.unnest(*arrays.values()).table_valued(*arrays).render_derived("ranges")

        def column_of(element: Any, **_options: Any) -> Any:
            if not isinstance(element, BindParameter) or element.key not in arrays:
                return None
            return literal_column(f"ranges.{element.key}", element.type)

        correlated: Any = visitors.replacement_traverse(statement, {}, column_of)
        of_range = correlated.lateral("of_range")
        return select(of_range).select_from(ranges.join(of_range, true())).limit(limit)


OF_CONNECTION = job.c.connection == bindparam("connection")
"""The condition that begins each range."""

MOST = bindparam("most", type_=Integer())
"""The number of rows that are read at most."""
