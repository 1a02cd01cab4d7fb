"""Rows as parameters of PostgreSQL: one array for each column.

A statement over many rows takes them by ``unnest``. The arrays are encoded here, as psycopg's own encoding of a list
costs many times as much. PostgreSQL's texts can't contain the character NUL: it is stored as ␀.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, TypeAlias

from psycopg import Connection
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.pq import Format

_BYTEA, _TEXT = 17, 25  # PostgreSQL's numbers of the types
_BYTEA_ARRAY, _TEXT_ARRAY = 1001, 1009
_HEADER = Struct(">iiIii")  # dimensions, whether there are nulls, type, length, first index
_LENGTH = Struct(">i")
_NULL = _LENGTH.pack(-1)


@dataclass(frozen=True, slots=True)
class BytesArray:
    """An array of `bytea` in PostgreSQL's binary form."""

    data: bytes


@dataclass(frozen=True, slots=True)
class TextArray:
    """An array of `text` in PostgreSQL's binary form."""

    data: bytes


Array: TypeAlias = str | BytesArray | TextArray
"""A parameter of psycopg: numbers are written as text, which takes the type that the statement names."""


class _BytesArrayDumper(Dumper):
    format = Format.BINARY
    oid = _BYTEA_ARRAY

    def dump(self, obj: BytesArray) -> Buffer:
        return obj.data


class _TextArrayDumper(Dumper):
    format = Format.BINARY
    oid = _TEXT_ARRAY

    def dump(self, obj: TextArray) -> Buffer:
        return obj.data


def register_arrays(connection: Connection[Any]) -> None:
    """Let statements of `connection` have arrays as parameters."""
    connection.adapters.register_dumper(BytesArray, _BytesArrayDumper)
    connection.adapters.register_dumper(TextArray, _TextArrayDumper)


def array_of(values: Sequence[Any], type_name: str) -> Array:
    """Return the values of a column, of a type of PostgreSQL, as a parameter. None is null."""
    if type_name == "BYTEA":
        return BytesArray(_encode(_BYTEA, values))
    if type_name == "TEXT":
        return TextArray(_encode(_TEXT, [None if value is None else _bytes_of(value) for value in values]))
    return numbers_array(values)


def numbers_array(values: Iterable[float | None]) -> str:
    """Return an array of numbers of any type."""
    return f"{{{','.join(map(str, values))}}}".replace("None", "NULL")


def storable(text: str) -> str:
    """Return `text` as PostgreSQL can store it."""
    return text.replace("\0", "␀")


def _bytes_of(text: str) -> bytes:
    return storable(text).encode()


def _encode(type_number: int, values: Sequence[bytes | None]) -> bytes:
    parts = [_HEADER.pack(1, 1, type_number, len(values), 1)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts.append(_LENGTH.pack(len(value)))
            parts.append(value)
    return b"".join(parts)
