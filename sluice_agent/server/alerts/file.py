"""The file of rules: TOML, of which each error is shown with its line, rule and field."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sluice_agent.errors import ConfigError
from sluice_agent.outbound.addresses import AddressError, check_literal
from sluice_agent.server.alerts.rules import (
    DAY,
    MINUTE,
    Depth,
    FailureShare,
    Measure,
    OldestWait,
    Rule,
    Silence,
    Webhook,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_T = TypeVar("_T")
_UNITS = {"s": 1, "m": MINUTE, "h": 60 * MINUTE, "d": DAY}
_DURATION = re.compile(r"(0|[1-9][0-9]{0,5})([smhd])", re.ASCII)
_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LONGEST_NAME = 100
_MOST_RULES = 200
_SHORTEST_REPEAT = 5 * MINUTE


@dataclass(frozen=True, slots=True)
class AlertFile:
    """What the file has."""

    rules: tuple[Rule, ...]
    webhooks: tuple[Webhook, ...]


def read_alerts(path: Path) -> AlertFile:
    """Return the rules of a file. Raises `ConfigError`, with all errors of the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file of alerts can't be read: {error}") from None
    return parse_alerts(text, str(path))


def parse_alerts(text: str, name: str) -> AlertFile:
    """Return the rules of a text; `name` is that of its file. Raises `ConfigError`, with all errors."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not TOML: {error}") from None
    errors = _Errors(text.splitlines())
    webhooks = _webhooks(document, errors)
    rules = _rules(document, webhooks, errors)
    for field in document.keys() - {"rule", "webhook"}:
        errors.add("", 0, field, "there are only [[rule]] and [webhook.NAME]")
    if not rules and not errors.found:
        errors.add("", 0, "rule", "there is no rule: add a [[rule]]")
    if errors.found:
        lines = [f"{name}, line {line}: {message}" if line else f"{name}: {message}" for line, message in errors.found]
        raise ConfigError("\n".join(lines))
    return AlertFile(tuple(rules), tuple(webhooks.values()))


class _Errors:
    """The errors of a file, with the lines that they are about."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self.found: list[tuple[int, str]] = []

    def add(self, table: str, number: int, field: str, message: str, label: str = "") -> None:
        """Add an error of a field in the `number`-th table of this name; `label` names the table for people."""
        prefix = " ".join(filter(None, (label, f"{field}:" if field else "")))
        self.found.append((self._line_of(table, number, field), f"{prefix} {message}"))

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
                seen += _plain(header[2]) == table
                begin = index if seen == number and _plain(header[2]) == table else 0
            if begin and field and _plain(line.partition("=")[0]) == field:
                return index
        return begin

    def _top_line_of(self, field: str) -> int:
        """Return the line of a field before all tables, or of the first table of this name; 0: not found."""
        for index, line in enumerate(self._lines, 1):
            header = _HEADER.match(line)
            name = _plain(header[2]) if header else _plain(line.partition("=")[0])
            if name == field or name.startswith(f"{field}."):
                return index
        return 0


def _plain(key: str) -> str:
    return key.strip().replace('"', "").replace("'", "").replace(" ", "")


class _Table:
    """The fields of one table; those that are not taken are errors."""

    def __init__(self, errors: _Errors, table: str, number: int, label: str, values: Mapping[str, Any]) -> None:
        self._errors = errors
        self._place = table, number
        self._label = label
        self._values = values
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
            self.error(field, f"{error}, and is {self._values[field]!r}")
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


def _webhooks(document: Mapping[str, Any], errors: _Errors) -> dict[str, Webhook]:
    tables = document.get("webhook", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        errors.add("", 0, "webhook", "webhooks are tables [webhook.NAME]")
        return {}
    webhooks = {}
    for name, values in tables.items():
        table = _Table(errors, f"webhook.{_plain(name)}", 0, f"webhook {name!r}", values)
        allows_private = table.take("private", _boolean, default=False)
        url = table.take("url", _text)
        secret_env = table.take("secret_env", _variable)
        table.end()
        try:
            check_literal(url or "http://x", allows_private=bool(allows_private))
        except AddressError as error:
            hint = ": add private = true if it may be sent there" if "private" in str(error) else ""
            table.error("url", f"{error}{hint}")
        webhooks[name] = Webhook(name, url or "", secret_env or "", bool(allows_private))
    return webhooks


def _rules(document: Mapping[str, Any], webhooks: Mapping[str, Webhook], errors: _Errors) -> list[Rule]:
    tables = document.get("rule", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        errors.add("", 0, "rule", "rules are tables [[rule]]")
        return []
    if len(tables) > _MOST_RULES:
        errors.add("rule", _MOST_RULES, "", f"there may be at most {_MOST_RULES} rules")
    rules = []
    names: set[str] = set()
    for number, values in enumerate(tables):
        label = f"rule {values['name']!r}" if isinstance(values.get("name"), str) else f"rule {number + 1}"
        table = _Table(errors, "rule", number, label, values)
        rule = _rule(table, webhooks)
        table.end()
        if rule is not None and rule.name in names:
            table.error("name", "another rule has it: each rule needs a name of its own")
        if rule is not None:
            names.add(rule.name)
            rules.append(rule)
    return rules


def _rule(table: _Table, webhooks: Mapping[str, Webhook]) -> Rule | None:
    name, connection = table.take("name", _text), table.take("connection", _text)
    webhook = table.take("webhook", lambda value: _one_of(value, webhooks))
    holds_for = table.take("for", _duration(0, DAY), default=0)
    resolves_after = table.take("resolve_after", _duration(0, DAY), default=2 * MINUTE)
    repeat = table.take_optional("repeat", _duration(_SHORTEST_REPEAT, 30 * DAY))
    measure = _measure(table)
    if not (name and connection and webhook and measure) or holds_for is None or resolves_after is None:
        return None
    return Rule(name, connection, measure, webhook, holds_for, resolves_after, repeat)


def _measure(table: _Table) -> Measure | None:
    when = table.take("when", lambda value: _one_of(value, _MEASURES))
    return None if when is None else when(table)


def _failure_share(table: _Table) -> Measure | None:
    task, above = table.take("task", _text), table.take("above", _share)
    over = table.take("over", _duration(MINUTE, DAY), default=5 * MINUTE)
    at_least = table.take("at_least", _count(1), default=20)
    if task is None or above is None or over is None or at_least is None:
        return None
    return FailureShare(task, above, over, at_least)


def _depth(table: _Table) -> Measure | None:
    queue, above = table.take("queue", _text), table.take("above", _count(0))
    return None if queue is None or above is None else Depth(queue, above)


def _oldest_wait(table: _Table) -> Measure | None:
    queue, above = table.take("queue", _text), table.take("above", _duration(1, 30 * DAY))
    return None if queue is None or above is None else OldestWait(queue, above)


def _silence(table: _Table) -> Measure | None:
    worker, above = table.take("worker", _text), table.take("above", _duration(10, 30 * DAY))
    return None if worker is None or above is None else Silence(worker, above)


_MEASURES: dict[str, Callable[[_Table], Measure | None]] = {
    "failure_share": _failure_share,
    "depth": _depth,
    "oldest_wait": _oldest_wait,
    "silence": _silence,
}


def _one_of(value: Any, choices: Mapping[str, _T]) -> _T:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"it must be one of {', '.join(choices)}" if choices else "there is no [webhook.NAME] yet")
    return choices[value]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > 20 * _LONGEST_NAME:
        raise ValueError("it must be a text of printable characters")
    return value


def _variable(value: Any) -> str:
    if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
        raise ValueError("it must be the name of an environment variable")
    return value


def _boolean(value: Any) -> bool:
    if value is True or value is False:
        return bool(value)
    raise ValueError("it must be true or false")


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError("it must be a share from 0 to below 1, such as 0.05 for 5 %")
    return float(value)


def _count(least: int) -> Callable[[Any], int]:
    def count(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**53:
            raise ValueError(f"it must be a whole number from {least}")
        return value

    return count


def _duration(shortest: int, longest: int) -> Callable[[Any], int]:
    """Return what converts a duration to seconds, within these bounds."""

    def duration(value: Any) -> int:
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError('it must be a duration such as "90s", "5m", "2h" or "1d"')
        seconds = int(match[1]) * _UNITS[match[2]]
        if not shortest <= seconds <= longest:
            raise ValueError(f"it must be from {_shown(shortest)} to {_shown(longest)}")
        return seconds

    return duration


def _shown(seconds: int) -> str:
    return next(f"{seconds // length}{unit}" for unit, length in reversed(_UNITS.items()) if seconds % length == 0)


def unused(file: AlertFile) -> Iterator[str]:
    """Yield the names of webhooks that no rule uses."""
    used = {rule.webhook.name for rule in file.rules}
    yield from (webhook.name for webhook in file.webhooks if webhook.name not in used)
