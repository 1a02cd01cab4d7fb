"""The file of rules: TOML, of which each error is shown with its line, rule and field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

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
from sluice_agent.toml_tables import Errors, Table, parse_toml, plain, read_toml

_T = TypeVar("_T")
_UNITS = {"s": 1, "m": MINUTE, "h": 60 * MINUTE, "d": DAY}
_DURATION = re.compile(r"(0|[1-9][0-9]{0,5})([smhd])", re.ASCII)
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
    return parse_alerts(read_toml(path, "alerts"), str(path))


def parse_alerts(text: str, name: str) -> AlertFile:
    """Return the rules of a text; `name` is that of its file. Raises `ConfigError`, with all errors."""
    document = parse_toml(text, name)
    errors = Errors(text)
    webhooks = _webhooks(document, errors)
    rules = _rules(document, webhooks, errors)
    for field in document.keys() - {"rule", "webhook"}:
        errors.add("", 0, field, "there are only [[rule]] and [webhook.NAME]")
    if not rules and not errors.found:
        errors.add("", 0, "rule", "there is no rule: add a [[rule]]")
    errors.check(name)
    return AlertFile(tuple(rules), tuple(webhooks.values()))


def _webhooks(document: Mapping[str, Any], errors: Errors) -> dict[str, Webhook]:
    tables = document.get("webhook", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        errors.add("", 0, "webhook", "webhooks are tables [webhook.NAME]")
        return {}
    webhooks = {}
    for name, values in tables.items():
        table = Table(errors, f"webhook.{plain(name)}", 0, f"webhook {name!r}", values)
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


def _rules(document: Mapping[str, Any], webhooks: Mapping[str, Webhook], errors: Errors) -> list[Rule]:
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
        table = Table(errors, "rule", number, label, values)
        rule = _rule(table, webhooks)
        table.end()
        if rule is not None and rule.name in names:
            table.error("name", "another rule has it: each rule needs a name of its own")
        if rule is not None:
            names.add(rule.name)
            rules.append(rule)
    return rules


def _rule(table: Table, webhooks: Mapping[str, Webhook]) -> Rule | None:
    name, connection = table.take("name", _text), table.take("connection", _text)
    webhook = table.take("webhook", lambda value: _one_of(value, webhooks))
    holds_for = table.take("for", _duration(0, DAY), default=0)
    resolves_after = table.take("resolve_after", _duration(0, DAY), default=2 * MINUTE)
    repeat = table.take_optional("repeat", _duration(_SHORTEST_REPEAT, 30 * DAY))
    measure = _measure(table)
    if not (name and connection and webhook and measure) or holds_for is None or resolves_after is None:
        return None
    return Rule(name, connection, measure, webhook, holds_for, resolves_after, repeat)


def _measure(table: Table) -> Measure | None:
    when = table.take("when", lambda value: _one_of(value, _MEASURES))
    return None if when is None else when(table)


def _failure_share(table: Table) -> Measure | None:
    task, above = table.take("task", _text), table.take("above", _share)
    over = table.take("over", _duration(MINUTE, DAY), default=5 * MINUTE)
    at_least = table.take("at_least", _count(1), default=20)
    if task is None or above is None or over is None or at_least is None:
        return None
    return FailureShare(task, above, over, at_least)


def _depth(table: Table) -> Measure | None:
    queue, above = table.take("queue", _text), table.take("above", _count(0))
    return None if queue is None or above is None else Depth(queue, above)


def _oldest_wait(table: Table) -> Measure | None:
    queue, above = table.take("queue", _text), table.take("above", _duration(1, 30 * DAY))
    return None if queue is None or above is None else OldestWait(queue, above)


def _silence(table: Table) -> Measure | None:
    worker, above = table.take("worker", _text), table.take("above", _duration(10, 30 * DAY))
    return None if worker is None or above is None else Silence(worker, above)


_MEASURES: dict[str, Callable[[Table], Measure | None]] = {
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
