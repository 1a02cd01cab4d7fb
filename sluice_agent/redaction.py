"""What leaves a task's arguments and results, when a user has asked for them: small, plain, and without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sluice_agent.asynchronous import is_asynchronous
from sluice_agent.log import complain
from sluice_agent.model import encode

Redact = Callable[[str, Any], Any]
"""Called with the name (args, kwargs or result) and the value; returns what may leave the process."""

HIDDEN = "[redacted]"

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase)?$|pwd|secret|token|api_?key|authorization|auth_?header|cookie|session_?id|credential|"
    r"private_?key|card_?(number|no)|cvc|cvv|iban|ssn|social_?security",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(r"\b(?:bearer|basic)\s+[\w.~+/=-]{8,}|\b[sprw]k_\w{8,}|//[^/\s:@]+:[^/\s@]+@", re.IGNORECASE)
_CARD_NUMBER = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
_DEEPEST = 6
_MOST_ITEMS = 50
_LONGEST_TEXT = 1_000  # characters


def redact(name: str, value: Any) -> Any:
    """The default hook: `value` as plain JSON, cut to size, secrets replaced. `name` is args, kwargs or result.

    Hidden are values under a name that says password, token, secret, authorization, card number and the like, and in
    texts what looks like a card number, a bearer token, a key or the password of a URL.
    """
    return HIDDEN if _SECRET_NAME.search(name) else _plain(value, _DEEPEST)


def unfailing(hook: Redact | None) -> Redact:
    """`hook`, else `redact`, but where it raises or returns what is no JSON the value is hidden, and the event sent."""
    chosen = hook or redact

    def redacted(name: str, value: Any) -> Any:
        try:
            sent = chosen(name, value)
            encode(sent)
        except Exception as error:
            if is_asynchronous(error):
                raise
            complain("redact", "redact raised %s: %s; the value is hidden.", type(error).__name__, error)
            return HIDDEN
        return sent

    return redacted


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value if not _is_card(str(value)) else HIDDEN
    if isinstance(value, str):
        return _text(value)
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {str(key)[:100]: _entry(str(key), item, depth) for key, item in list(value.items())[:_MOST_ITEMS]}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth - 1) for item in list(value)[:_MOST_ITEMS]]
    return _text(_shown(value))


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        return f"<{type(value).__name__} that can't be shown>"


def _entry(key: str, value: Any, depth: int) -> Any:
    return HIDDEN if _SECRET_NAME.search(key) else _plain(value, depth - 1)


def _text(text: str) -> str:
    text = (
        text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…[{len(text) - _LONGEST_TEXT} characters cut]"
    )
    text = _SECRET_TEXT.sub(HIDDEN, text)
    return _CARD_NUMBER.sub(lambda found: HIDDEN if _is_card(found[0]) else found[0], text)


def _is_card(text: str) -> bool:
    """Whether the digits of `text` have the length and the check digit (Luhn) of a card's number."""
    digits = [int(character) for character in text if character.isdecimal()]
    if not 13 <= len(digits) <= 19 or not all(character in "0123456789 -" for character in text):
        return False
    doubled = [sum(divmod(digit * 2, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
