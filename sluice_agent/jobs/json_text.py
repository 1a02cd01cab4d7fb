"""JSON as clients write it: numbers keep their digits, and one value has one canonical text.

A payload goes on to its endpoint as it came, however many digits a number has; a hash of the canonical text shows
whether two payloads are equal.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

DEEPEST = 100
"""Levels of objects and lists inside each other."""

_LONGEST_NUMBER = 400  # characters; a double has at most 309 digits before its point
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Number(float):
    """A number that is no integer, with the text by which it was written."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Number:
        """Return the number in `text`. Raises `ValueError` if it has no finite value."""
        number = super().__new__(cls, text)
        if not math.isfinite(number):
            raise ValueError(f"the number {text[:20]} is too large")
        number.text = text
        return number


class Raw(str):
    """A text that is JSON already."""

    __slots__ = ()


def parse(body: bytes) -> Any:
    """Return the value of the JSON in `body`. Raises `ValueError`, with what is wrong, if there is none."""
    try:
        value = json.loads(body.decode(), parse_float=Number, parse_int=_integer, parse_constant=_refuse)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    if _ESCAPED_SURROGATE.search(body):
        _check_surrogates(value)
    return value


def canonical(value: Any) -> str:
    """Return the one text of a value: its keys sorted, without spaces, and with the digits that its numbers had.

    Raises `ValueError` if it is too deep.
    """
    return _encode(value, sort=True, depth=0)


def dumps(value: Any) -> str:
    """Return the JSON of a value, whose keys stay in their order and whose `Raw` parts stay as they are."""
    return _encode(value, sort=False, depth=0)


def indented(value: Any, depth: int = 0) -> str:
    """Return the JSON of a value for people: each member on a line of its own, behind two spaces for each level."""
    margin = "  " * (depth + 1)
    match value:
        case dict() if value:
            lines = [f"{margin}{_text(name)}: {indented(item, depth + 1)}" for name, item in value.items()]
            return "{\n" + ",\n".join(lines) + "\n" + "  " * depth + "}"
        case list() | tuple() if value:
            lines = [f"{margin}{indented(item, depth + 1)}" for item in value]
            return "[\n" + ",\n".join(lines) + "\n" + "  " * depth + "]"
        case _:
            return dumps(value)


def _encode(value: Any, *, sort: bool, depth: int) -> str:
    if depth > DEEPEST:
        raise _too_deep()
    match value:
        case Raw():
            return value
        case dict():
            items = sorted(value.items()) if sort else value.items()
            pairs = (f"{_text(name)}:{_encode(item, sort=sort, depth=depth + 1)}" for name, item in items)
            return f"{{{','.join(pairs)}}}"
        case list() | tuple():
            return f"[{','.join(_encode(item, sort=sort, depth=depth + 1) for item in value)}]"
        case Number():
            return value.text
        case _:
            return _text(value)


_text = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` makes an encoder for each value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"the number {text[:20]}… is too large")
    return int(text)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _check_surrogates(value: Any) -> None:
    try:
        canonical(value).encode()
    except UnicodeEncodeError:
        raise ValueError("it has half of a character (a surrogate without the other one)") from None


def _too_deep() -> ValueError:
    return ValueError(f"it has more than {DEEPEST} levels of objects and lists")
