"""Conditions of statements, and how one is kept from choosing an index."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, bindparam

Condition = ColumnElement[bool]


def is_one_of(column: ColumnElement[Any], numbers: Iterable[int]) -> Condition:
    """Return the condition that a column has one of some numbers. They are written into the statement: to pass many of
    them takes longer than to read a page."""
    return column.in_(bindparam(None, list(numbers), BigInteger(), expanding=True, literal_execute=True))


def unindexed(column: Column[Any]) -> ColumnElement[Any]:
    """Return an expression that has the value of `column`, and no index."""
    return column + ("" if column.type.python_type is str else 0)
