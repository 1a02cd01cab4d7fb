"""Sums of the counts of a window: from days where they are whole, from hours, and from minutes at its edges."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, cast, func, select

from sluice_agent.server.queries.window import Window
from sluice_agent.server.store.schema import ALL_NAMES, DAY, MINUTE, rollup


def sums_of_names(
    reader: Connection, connections: Collection[int], window: Window, *columns: ColumnElement[Any]
) -> dict[tuple[Any, ...], int]:
    """Return the counts of tasks in `window`, summed by `columns` of `rollup`."""
    sums: dict[tuple[Any, ...], int] = {}
    for length, starts in window.parts():
        in_part = rollup.c.start.between(starts[0], starts[-1]) & (rollup.c.name != ALL_NAMES)
        _add(sums, reader, connections, length, in_part, columns)
    return {key: count for key, count in sums.items() if count > 0}


def sums_of_queues(
    reader: Connection,
    connections: Collection[int],
    window: Window,
    condition: ColumnElement[bool],
    *columns: ColumnElement[Any],
    longest: int = DAY,
) -> dict[tuple[Any, ...], int]:
    """Return the counts of queues in `window` that fulfil `condition`, summed by `columns` of `rollup`, from rollups of
    `longest` minutes or less."""
    sums: dict[tuple[Any, ...], int] = {}
    for length, starts in window.parts(longest):
        in_part: ColumnElement[bool]
        if length == MINUTE:
            in_part = rollup.c.start.between(starts[0], starts[-1])
        else:
            in_part = rollup.c.start.in_(starts) & (rollup.c.name == ALL_NAMES)
        _add(sums, reader, connections, length, in_part & (rollup.c.queue != 0) & condition, columns)
    return {key: count for key, count in sums.items() if count > 0}


def _add(
    sums: dict[tuple[Any, ...], int],
    reader: Connection,
    connections: Collection[int],
    length: int,
    condition: ColumnElement[bool],
    columns: Collection[ColumnElement[Any]],
) -> None:
    total = cast(func.sum(rollup.c.count), BigInteger)
    statement = select(*columns, total).where(
        rollup.c.connection.in_(connections), rollup.c.minutes == length, condition
    )
    for *key, count in reader.execute(statement.group_by(*columns)):
        sums[tuple(key)] = sums.get(tuple(key), 0) + count
