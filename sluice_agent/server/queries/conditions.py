"""Conditions of statements, and how one is kept from choosing an index."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement

Condition = ColumnElement[bool]


def unindexed(column: Column[Any]) -> ColumnElement[Any]:
    """Return an expression that has the value of `column`, and no index."""
    return column + ("" if column.type.python_type is str else 0)
