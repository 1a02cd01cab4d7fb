"""Any value of a task's as a small one of plain JSON, at a cost that does not grow with the value.

No method of a class of somebody's is called: its `__repr__` may take any time and memory, its length may be a query.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from types import NoneType
from typing import Any
from uuid import UUID

MORE = "…"
"""What stands for all that is left out."""

_LARGEST_INT = 256  # bits: more digits than anybody reads, and few enough for every reader of JSON
_LARGEST_DECIMAL = 256  # bytes
_LONGEST_KEY = 100  # characters
_MOST_MEMBERS = 50  # of a collection that counts as short
_SEQUENCES = (list, tuple, set, frozenset, deque)
_SHORT = frozenset({NoneType, bool, int, float, complex, date, datetime, time, timedelta, UUID})
# Their text is short, whatever they hold; but an int's, which is looked at before.


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept: of one text, of one collection, and of all in all."""

    text: int
    """Characters."""
    items: int
    depth: int
    """Collections within each other."""
    total: int
    """Characters, where each item counts for one at the least."""


def bounded(
    value: Any,
    limits: Limits,
    *,
    finish: Callable[[str], str] = str,
    hide: Callable[[str], str | None] = lambda _: None,
    name_others: bool = True,
) -> Any:
    """`value` within `limits`. `finish` is applied to each text, `hide` to each key: what stands for its value.

    An object of another class is named by that; where not `name_others`, it raises TypeError.
    """
    return _Walk(limits, finish, hide, name_others).plain(value, limits.depth)


class _Walk:
    __slots__ = ("_finish", "_hide", "_left", "_limits", "_name_others")

    def __init__(
        self, limits: Limits, finish: Callable[[str], str], hide: Callable[[str], str | None], name_others: bool
    ) -> None:
        self._limits = limits
        self._finish = finish
        self._hide = hide
        self._name_others = name_others
        self._left = limits.total

    def plain(self, value: Any, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            return MORE
        kind = type(value)  # not isinstance(): a proxy's class is code of somebody's
        if value is None or kind is bool:
            return value
        if issubclass(kind, dict):
            return self._mapping(value, depth) if depth else MORE
        for base in _SEQUENCES:
            if issubclass(kind, base):
                return self._items(base.__iter__(value), depth) if depth else MORE
        return self._single(value, kind)

    def _single(self, value: Any, kind: type) -> Any:
        if issubclass(kind, float):
            return float.__add__(value, 0.0)
        if issubclass(kind, int) and not issubclass(kind, Enum) and int.bit_length(value) <= _LARGEST_INT:
            number = int.__add__(value, 0)
            text = self._finish(str(number))  # a card's number is one
            return number if text == str(number) else text
        text, cut = text_of(value, self._limits.text)
        if not self._name_others and text == _name(kind):
            raise TypeError(f"{text} is no JSON")
        return self._text(text, cut)

    def _items(self, items: Iterator[Any], depth: int) -> list[Any]:
        kept = []
        for item in islice(items, self._limits.items):
            kept.append(self.plain(item, depth - 1))
            if self._left < 0:
                break
        return kept

    def _mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        kept = {}
        for key, item in islice(dict.items(value), self._limits.items):
            name, cut = text_of(key, _LONGEST_KEY)
            self._left -= len(name)
            hidden = self._hide(name)
            kept[name + MORE if cut else name] = self.plain(item, depth - 1) if hidden is None else hidden
            if self._left < 0:
                break
        return kept

    def _text(self, text: str, cut: int) -> str:
        if self._left < len(text):
            cut += len(text) - self._left
            text = text[: self._left]
        self._left -= len(text)
        return self._finish(f"{text}…[{cut} characters cut]" if cut else text)


def text_of(value: Any, limit: int) -> tuple[str, int]:
    """The first `limit` characters of what `value` is printed as, and how many are cut; for bytes, how many bytes."""
    kind = type(value)
    if issubclass(kind, str):
        return str.__getitem__(value, slice(limit)), max(str.__len__(value) - limit, 0)
    for base in (bytes, bytearray):
        if issubclass(kind, base):
            most = limit // 4  # \x00 is four characters
            return repr(bytes(base.__getitem__(value, slice(most))))[:limit], max(base.__len__(value) - most, 0)
    if issubclass(kind, Enum):
        text = f"{kind.__name__}.{value._name_}"
    elif issubclass(kind, int) and int.bit_length(value) > _LARGEST_INT:
        text = f"<int of {int.bit_length(value)} bits>"
    elif kind in _SHORT or (kind is Decimal and Decimal.__sizeof__(value) <= _LARGEST_DECIMAL):
        text = repr(value)
    else:
        text = _name(kind)
    return text[:limit], 0


def is_short(value: Any, limit: int, depth: int = 3) -> bool:
    """Whether Python prints `value` with a few times `limit` characters at most, as far as it is of Python's own types.

    Collections may be `depth` within each other.
    """
    kind = type(value)
    if kind in (str, bytes, bytearray):
        return len(value) <= limit
    if kind is int:
        return bool(value.bit_length() <= _LARGEST_INT)
    if kind is not dict and kind not in _SEQUENCES:
        return True
    if not depth or len(value) > _MOST_MEMBERS:
        return False
    members = (*value, *value.values()) if kind is dict else tuple(value)
    return all(is_short(member, limit, depth - 1) for member in members)


def _name(kind: type) -> str:
    return f"<{kind.__name__}>"
