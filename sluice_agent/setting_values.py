"""The kinds of values that settings have: each parses a text of the environment, or an object of a caller.

A text comes without spaces at its ends. `MalformedError` has the rule that a value breaks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

_FLAGS = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}
_HOST_PORT = re.compile(r"(?:\[[^\s/\[\]]+\]|[^\s/\[\]]*):([0-9]{1,5})")


class MalformedError(Exception):
    """A value that a setting can't have, and what it should be: ``should be a valid UUID``."""

    def __init__(self, value: Any, rule: str) -> None:
        super().__init__(rule)
        self.value, self.rule = value, rule


class Secret:
    """A text that is not printed: settings end up in logs."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        """Return the text, which must never be printed."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret('**********')"


class IngestKey:
    """The key of a destination: the agent is on if one of them is set. `rule` is what it must be."""

    def __init__(self, rule: str, *, begins_with_sk: bool) -> None:
        self._rule = rule
        self._begins_with_sk = begins_with_sk

    def __call__(self, value: Any) -> Secret:
        key = _text(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
        if not key.isascii() or not key.isprintable() or " " in key or key.startswith("sk_") != self._begins_with_sk:
            raise MalformedError(value, f"must be {self._rule}")
        return Secret(key)


class Number:
    """A number from `lowest` to `highest`, both included."""

    def __init__(self, kind: type[int | float], lowest: float, highest: float | None = None) -> None:
        self._kind = kind
        self.lowest = lowest
        self.highest = highest

    def __call__(self, value: Any) -> int | float:
        name = "integer" if self._kind is int else "number"
        if not isinstance(value, (str, int, float)):
            raise MalformedError(value, f"should be a valid {name}")
        if isinstance(value, float) and self._kind is int and not value.is_integer():
            raise MalformedError(value, "should be a valid integer, got a number with a fractional part")
        try:
            number = self._kind(value)
        except ValueError:
            article = "an" if self._kind is int else "a"
            raise MalformedError(
                value, f"should be a valid {name}, unable to parse string as {article} {name}"
            ) from None
        if not isfinite(number):
            raise MalformedError(value, "should be a finite number")
        if number < self.lowest:
            raise MalformedError(value, f"should be greater than or equal to {self.lowest}")
        if self.highest is not None and number > self.highest:
            raise MalformedError(value, f"should be less than or equal to {self.highest}")
        return number


class OneOf:
    """One of some words, in any case."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def __call__(self, value: Any) -> str:
        word = value.lower() if isinstance(value, str) else value
        if word not in self._words:
            *others, last = map(repr, self._words)
            raise MalformedError(value, f"should be {', '.join(others)} or {last}")
        return str(word)


class Names:
    """Names that a text has comma-separated; `parse` returns each."""

    def __init__(self, parse: Callable[[Any], str] | None = None, *, may_be_empty: bool = False) -> None:
        self._parse = parse or _text
        self._may_be_empty = may_be_empty

    def __call__(self, value: Any) -> tuple[str, ...]:
        names = [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple, set, frozenset)):
            raise MalformedError(value, "should be a valid tuple")
        if not names and not self._may_be_empty:
            raise MalformedError(value, "must be at least one name, comma-separated; unset, it means all of them")
        return tuple(map(self._parse, names))


class Address:
    """The address of an endpoint, like `example`, returned without a slash at its end."""

    def __init__(self, example: str) -> None:
        self._rule = f"must be an address such as {example}"

    def __call__(self, value: Any) -> str:
        address = _text(value)
        try:
            parts = urlsplit(address)
        except ValueError:
            raise MalformedError(value, self._rule) from None
        host = parts.hostname
        if parts.scheme not in ("http", "https") or not host or ".." in host or parts.query or parts.fragment:
            raise MalformedError(value, self._rule)
        if not address.isprintable() or " " in address:
            raise MalformedError(value, f"{self._rule}, without spaces")
        if parts.username is not None:
            raise MalformedError(value, f"{self._rule}, without user and password: each request carries the key")
        try:
            _ = parts.port
        except ValueError:
            raise MalformedError(value, "must be an address with a port from 0 to 65535") from None
        return address.rstrip("/")


def flag(value: Any) -> bool:
    """Return whether `value` means on."""
    if isinstance(value, (str, int)):
        parsed = _FLAGS.get(value.lower() if isinstance(value, str) else str(int(value)))
        if parsed is not None:
            return parsed
        raise MalformedError(value, "should be a valid boolean, unable to interpret input")
    raise MalformedError(value, "should be a valid boolean")


def uuid(value: Any) -> UUID:
    """Return `value` as a UUID."""
    try:
        return value if isinstance(value, UUID) else UUID(_text(value))
    except ValueError:
        raise MalformedError(value, "should be a valid UUID") from None


def directory(value: Any) -> Path:
    """Return `value` as an absolute path: the process may change its working directory."""
    if not isinstance(value, (str, os.PathLike)):
        raise MalformedError(value, "should be a valid path")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError:
        raise MalformedError(value, "must be a directory: the home of that user is unknown") from None
    except OSError:
        raise MalformedError(value, "must be an absolute path: the current directory no longer exists") from None


def host_port(value: Any) -> str:
    """Return ``[host]:port``."""
    match = _HOST_PORT.fullmatch(_text(value))
    if not match or not 0 < int(match[1]) < 65_536:
        raise MalformedError(value, "must be [host]:port, such as :8081")
    return match[0]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise MalformedError(value, "should be a valid string")
    return value
