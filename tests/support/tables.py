"""The tables of a database, in a form that can be compared."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, inspect


def tables_of(bind: Connection | Engine) -> dict[str, Any]:
    """Return of each table its columns in their order, and its indexes."""
    inspector = inspect(bind)
    return {
        table: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)],
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted((str(index["name"]), index["column_names"]) for index in inspector.get_indexes(table)),
        )
        for table in inspector.get_table_names()
    }
