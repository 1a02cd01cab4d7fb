"""Reduce any value of a task to a small one of plain JSON, at a cost that does not grow with the value.

No method of a user's class or metaclass is called: its `__repr__` may take any time and memory, its length may be a
query. So classes are compared with `is`, and attributes of a value or a class are read by the methods of Python's own
types. `in` would call the class's `__eq__`, an f-string the `__format__` of a name.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from itertools import islice
from types import NoneType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

MORE = "…"
"""The mark in place of all that is left out."""

_MAX_INT_BITS = 256  # more digits than a person reads, and few enough for every parser of JSON
_MAX_DECIMAL_BYTES = 256
_MAX_KEY = 100  # characters
_MAX_MEMBERS = 50  # of a collection that counts as short
_SEQUENCES = (list, tuple, set, frozenset, deque)
_SHORT = (NoneType, bool, int, float, complex, date, timedelta)
# Their text is short, whatever they hold, except for an int, which is checked before.
_MAX_ZONE = 100  # characters of a time zone's name
_NAME_OF_CLASS = vars(type)["__name__"].__get__
_DICT_OF_MEMBER = vars(Enum)["__dict__"].__get__


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that is kept: of one text, of one collection, and in total."""

    text: int
    """Characters."""
    items: int
    depth: int
    """Nested collections."""
    total: int
    """Characters; each item counts as one at least."""


def bounded(
    value: Any,
    limits: Limits,
    *,
    finish: Callable[[str], str] = str,
    hide: Callable[[str], str | None] = lambda _: None,
    name_others: bool = True,
) -> Any:
    """Return `value` within `limits`. `finish` is applied to each text; `hide` returns a substitute for a key's value.

    An object of any other class becomes the name of that, or raises TypeError unless `name_others`.
    """
    return _Reducer(limits, finish, hide, name_others).plain(value, limits.depth)


class _Reducer:
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
        kind = type(value)  # not isinstance(): a proxy's `__class__` is the user's code
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
        if issubclass(kind, int) and not issubclass(kind, Enum) and int.bit_length(value) <= _MAX_INT_BITS:
            number = int.__add__(value, 0)
            text = self._finish(str(number))  # a card number is an int
            return number if text == str(number) else text
        text, cut = text_of(value, self._limits.text)
        if not self._name_others and text == _name(kind):
            raise TypeError(f"{text} is not JSON")
        return self._text(text, cut)

    def _items(self, items: Iterator[Any], depth: int) -> list[Any]:
        reduced = []
        for item in islice(items, self._limits.items):
            reduced.append(self.plain(item, depth - 1))
            if self._left < 0:
                break
        return reduced

    def _mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        reduced = {}
        for key, item in islice(dict.items(value), self._limits.items):
            name, cut = text_of(key, _MAX_KEY)
            self._left -= len(name)
            hidden = self._hide(name)
            reduced[name + MORE if cut else name] = self.plain(item, depth - 1) if hidden is None else hidden
            if self._left < 0:
                break
        return reduced

    def _text(self, text: str, cut: int) -> str:
        if self._left < len(text):
            cut += len(text) - self._left
            text = text[: self._left]
        self._left -= len(text)
        return self._finish(f"{text}…[{cut} characters cut]" if cut else text)


def text_of(value: Any, limit: int) -> tuple[str, int]:
    """Return the first `limit` characters of `value` as text, and the number cut off; for bytes, that of bytes."""
    kind = type(value)
    if issubclass(kind, str):
        return str.__getitem__(value, slice(limit)), max(str.__len__(value) - limit, 0)
    for base in (bytes, bytearray):
        if issubclass(kind, base):
            size = limit // 4  # \x00 is four characters
            return repr(bytes(base.__getitem__(value, slice(size))))[:limit], max(base.__len__(value) - size, 0)
    if issubclass(kind, Enum):
        text = _member(value, kind)
    elif issubclass(kind, int) and int.bit_length(value) > _MAX_INT_BITS:
        text = f"<int of {int.bit_length(value)} bits>"
    elif _is_printed_short(value, kind):
        text = repr(value)
    elif kind is datetime or kind is time:
        text = _date(value)
    else:
        text = _name(kind)
    return text[:limit], 0


def is_short(value: Any, limit: int, depth: int = 3) -> bool:
    """Return whether Python prints `value` in a few times `limit` characters at most, if it is of Python's own types.

    Collections may be nested `depth` deep.
    """
    kind = type(value)
    if _is_any(kind, (str, bytes, bytearray)):
        return len(value) <= limit
    if kind is int:
        return bool(value.bit_length() <= _MAX_INT_BITS)
    if not _is_any(kind, (dict, *_SEQUENCES)):
        return True
    if not depth or len(value) > _MAX_MEMBERS:
        return False
    members = (*value, *value.values()) if kind is dict else tuple(value)
    return all(is_short(member, limit, depth - 1) for member in members)


def _is_printed_short(value: Any, kind: type) -> bool:
    """Return whether Python's own `__repr__` prints `value`, as a short text."""
    if kind is Decimal:
        return bool(Decimal.__sizeof__(value) <= _MAX_DECIMAL_BYTES)
    if kind is UUID:
        return type(value.int) is int
    return _is_any(kind, _SHORT)


def _is_any(kind: type, kinds: tuple[type, ...]) -> bool:
    return any(kind is other for other in kinds)


def _member(member: Enum, kind: type) -> str:
    name = _DICT_OF_MEMBER(member).get("_name_")  # a combination of flags may have none
    return f"{_class_name(kind)}.{_plain(name)}" if issubclass(type(name), str) else _name(kind)


def _date(value: datetime | time) -> str:
    """Return the text of a date and time, or a time of day, whose zone may be of a user's class."""
    zone = value.tzinfo
    if zone is None or _is_plain(zone):
        return repr(value)
    return f"{repr(value.replace(tzinfo=None))[:-1]}, tzinfo={_name(type(zone))})"


def _is_plain(zone: tzinfo) -> bool:
    """Return whether a time zone and its parts are of Python's own types."""
    if type(zone) is ZoneInfo:
        parts: tuple[Any, ...] = (zone.key,)
    elif type(zone) is timezone:
        parts = vars(timezone)["__getinitargs__"](zone)  # the offset, and the name if it has one
    else:
        return False
    return all(
        part is None or type(part) is timedelta or (type(part) is str and len(part) <= _MAX_ZONE) for part in parts
    )


def _name(kind: type) -> str:
    return f"<{_class_name(kind)}>"


def _class_name(kind: type) -> str:
    return _plain(_NAME_OF_CLASS(kind))


def _plain(text: str) -> str:
    """Return a text as a plain `str`, cut: it may be of a user's subclass."""
    return str.__getitem__(text, slice(_MAX_KEY))
