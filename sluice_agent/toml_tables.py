"""Files of settings in TOML, of which each error is shown with its line, table and field."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sluice_agent.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_T = TypeVar("_T")
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")


def read_toml(path: Path, subject: str) -> str:
    """Return the text of a file of `subject`. Raises `ConfigError`."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file of {subject} can't be read: {error}") from None


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Return the document that a text is; `name` is that of its file. Raises `ConfigError`."""
    try:
        document: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}") from None
    return document


class Errors:
    """The errors of a file, with the lines that they are about."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self.found: list[tuple[int, str]] = []

    def add(self, table: str, number: int, field: str, message: str, label: str = "") -> None:
        """Add an error of a field in the `number`-th table of this name; `label` names the table for people."""
        text = " ".join(filter(None, (label, f"{field}:" if field else "", message)))
        self.found.append((self._line_of(table, number, field), text))

    def check(self, name: str) -> None:
        """Raise `ConfigError` with all errors, if there are any; `name` is that of the file."""
        if self.found:
            lines = [f"{name}, line {line}: {text}" if line else f"{name}: {text}" for line, text in self.found]
            raise ConfigError("\n".join(lines))

    def _line_of(self, table: str, number: int, field: str) -> int:
        """Return the line of a field, or of its table; 0: not found."""
        if not table:
            return self._top_line_of(field)
        seen, begin = -1, 0
        for index, line in enumerate(self._lines, 1):
            header = _HEADER.match(line)
            if header:
                if begin:
                    break
                seen += plain(header[2]) == table
                begin = index if seen == number and plain(header[2]) == table else 0
            if begin and field and plain(line.partition("=")[0]) == field:
                return index
        return begin

    def _top_line_of(self, field: str) -> int:
        """Return the line of a field before all tables, or of the first table of this name; 0: not found."""
        for index, line in enumerate(self._lines, 1):
            header = _HEADER.match(line)
            name = plain(header[2]) if header else plain(line.partition("=")[0])
            if name == field or name.startswith(f"{field}."):
                return index
        return 0


def plain(key: str) -> str:
    """Return a key, or the name of a table, without quotes and spaces, as errors are looked up by it."""
    return key.strip().replace('"', "").replace("'", "").replace(" ", "")


class Table:
    """The fields of one table; those that are not taken are errors. `shows_values`: errors have the values, too."""

    def __init__(
        self,
        errors: Errors,
        table: str,
        number: int,
        label: str,
        values: Mapping[str, Any],
        *,
        shows_values: bool = True,
    ) -> None:
        self._errors = errors
        self._place = table, number
        self._label = label
        self._values = values
        self._shows_values = shows_values
        self._taken: set[str] = set()

    def error(self, field: str, message: str) -> None:
        """Add an error of a field."""
        self._errors.add(*self._place, field, message, self._label)

    def take(self, field: str, convert: Callable[[Any], _T], default: _T | None = None) -> _T | None:
        """Return a field, or its default; None if it is wrong, or missing without a default."""
        self._taken.add(field)
        if field not in self._values:
            if default is None:
                self.error(field, "it is missing")
            return default
        try:
            return convert(self._values[field])
        except ValueError as error:
            value = f", and is {self._values[field]!r}" if self._shows_values else ""
            self.error(field, f"{error}{value}")
            return None

    def take_optional(self, field: str, convert: Callable[[Any], _T]) -> _T | None:
        """Return a field, None if it is absent or wrong."""
        self._taken.add(field)
        return self.take(field, convert) if field in self._values else None

    def end(self) -> None:
        """Refuse the fields that were not taken."""
        for field in self._values:
            if field not in self._taken:
                known = ", ".join(sorted(self._taken))
                self.error(field, f"there is no such field here: there are {known}")
